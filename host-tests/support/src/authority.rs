//! Throwaway certificates.

use anyhow::Result;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, DnValue, IsCa, Issuer, KeyPair, KeyUsagePurpose, date_time_ymd,
};

/// A certificate authority with its key, both as PEM.
pub struct Authority {
    pub certificate: String,
    pub key: String,
    issuer: Issuer<'static, KeyPair>,
}

/// A server's certificate and its key, both as PEM.
pub struct ServerCertificate {
    pub certificate: String,
    pub key: String,
}

impl Authority {
    /// Creates an authority with this name.
    pub fn new(name: &str) -> Result<Self> {
        let mut params = named(name, &[])?;
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = KeyPair::generate()?;
        let certificate = params.self_signed(&key)?.pem();
        Ok(Self { certificate, key: key.serialize_pem(), issuer: Issuer::new(params, key) })
    }

    /// Signs a server's certificate for these host names and addresses; the first is its common name.
    pub fn server(&self, names: &[String]) -> Result<ServerCertificate> {
        let key = KeyPair::generate()?;
        let name = names.first().map_or("", String::as_str);
        let certificate = named(name, names)?.signed_by(&key, &self.issuer)?.pem();
        Ok(ServerCertificate { certificate, key: key.serialize_pem() })
    }
}

fn named(name: &str, alternatives: &[String]) -> Result<CertificateParams> {
    let mut params = CertificateParams::new(alternatives)?;
    // A string type that OpenSSL's tools print unescaped.
    params.distinguished_name.push(DnType::CommonName, DnValue::Utf8String(name.to_owned()));
    (params.not_before, params.not_after) = (date_time_ymd(2020, 1, 1), date_time_ymd(2099, 1, 1));
    Ok(params)
}
