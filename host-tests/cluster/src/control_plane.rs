//! The control plane, as processes beside the nodes. kubeadm's phases create its certificates and kubeconfigs.

use crate::addresses::{API_SERVER, HERE, PODS, SERVICES};
use crate::daemon::Daemon;
use crate::parts::Parts;
use anyhow::{Context, Result};
use dob_support::{cmd, eventually, read, read_within};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// How long a part of the control plane may take to answer.
pub(crate) const PATIENCE: Duration = Duration::from_secs(120);
const ETCD: &str = "http://127.0.0.1:2379";

/// Kubernetes without nodes.
pub(crate) struct ControlPlane {
    pub directory: PathBuf,
    parts: Parts,
    _daemons: Vec<Daemon>,
}

impl ControlPlane {
    pub async fn start(parts: &Parts, directory: &Path) -> Result<Self> {
        let mut plane = Self { directory: directory.to_owned(), parts: parts.clone(), _daemons: Vec::new() };
        plane.make_certificates()?;
        let etcd = plane.start_etcd()?;
        let api_server = plane.start_api_server()?;
        eventually("the API server is ready", PATIENCE, async || {
            etcd.ensure_running().context("etcd")?;
            api_server.ensure_running().context("kube-apiserver")?;
            plane.kubectl(&["get", "--raw", "/readyz"])
        })
        .await?;
        // These two exit at once if they start before the API server has created its roles.
        let others = [plane.start_controller_manager()?, plane.start_scheduler()?];
        plane._daemons = [etcd, api_server].into_iter().chain(others).collect();
        let kubelets = ["--clusterrole", "system:kubelet-api-admin", "--user", "kube-apiserver-kubelet-client"];
        plane.kubectl(&[&["create", "clusterrolebinding", "kubelet-api"][..], &kubelets].concat())?;
        plane.bind_role("kube-system", "kube-proxy", "system:node-proxier")?;
        Ok(plane)
    }

    /// The administrator's kubeconfig. `admin.conf` has no rights yet: a later phase of kubeadm would grant them.
    pub fn kubeconfig(&self) -> PathBuf {
        self.configuration("super-admin")
    }

    /// A client with the administrator's rights.
    pub async fn client(&self) -> Result<kube::Client> {
        let kubeconfig = kube::config::Kubeconfig::read_from(self.kubeconfig())?;
        let config = kube::Config::from_custom_kubeconfig(kubeconfig, &Default::default()).await?;
        Ok(kube::Client::try_from(config)?)
    }

    /// Runs kubectl as the administrator.
    pub fn kubectl(&self, arguments: &[&str]) -> Result<String> {
        self.kubectl_within(PATIENCE, arguments)
    }

    /// The same with this deadline.
    pub fn kubectl_within(&self, deadline: Duration, arguments: &[&str]) -> Result<String> {
        read_within(deadline, &cmd(self.parts.program("kubectl")?, arguments).env("KUBECONFIG", self.kubeconfig()))
    }

    /// Applies manifests.
    pub fn apply(&self, manifests: &str) -> Result<()> {
        let file = self.directory.join("applied.yaml");
        fs::write(&file, manifests)?;
        self.kubectl(&["apply", "--server-side", "--filename", &file.to_string_lossy()]).map(drop)
    }

    /// Creates a service account with a ClusterRole.
    pub fn bind_role(&self, namespace: &str, account: &str, role: &str) -> Result<()> {
        self.kubectl(&["--namespace", namespace, "create", "serviceaccount", account])?;
        let subject = format!("{namespace}:{account}");
        let bind = ["create", "clusterrolebinding", account, "--clusterrole", role, "--serviceaccount", &subject];
        self.kubectl(&bind).map(drop)
    }

    /// The kubeconfig of a service account, for a program that runs outside the cluster.
    pub fn kubeconfig_of(&self, namespace: &str, account: &str) -> Result<PathBuf> {
        let token = self.kubectl(&["--namespace", namespace, "create", "token", account, "--duration", "24h"])?;
        let path = self.directory.join(format!("{account}.conf"));
        let authority = self.certificate("ca.crt");
        let kubeconfig = format!(
            "apiVersion: v1
kind: Config
clusters: [{{ name: dob, cluster: {{ server: \"https://{API_SERVER}\", certificate-authority: {authority} }} }}]
users: [{{ name: {account}, user: {{ token: \"{token}\" }} }}]
contexts: [{{ name: dob, context: {{ cluster: dob, user: {account} }} }}]
current-context: dob
",
            authority = authority.display(),
        );
        fs::write(&path, kubeconfig)?;
        Ok(path)
    }

    /// Writes a node's kubeconfig into a directory. Returns its path.
    pub fn kubeconfig_of_node(&self, name: &str, directory: &Path) -> Result<PathBuf> {
        let phase = ["init", "phase", "kubeconfig", "kubelet", "--node-name", name, "--kubeconfig-dir"];
        self.kubeadm(&[&phase[..], &[&directory.to_string_lossy()]].concat())?;
        Ok(directory.join("kubelet.conf"))
    }

    /// A certificate that kubeadm has created.
    pub fn certificate(&self, name: &str) -> PathBuf {
        self.directory.join("pki").join(name)
    }

    fn configuration(&self, name: &str) -> PathBuf {
        self.directory.join(format!("{name}.conf"))
    }

    fn make_certificates(&self) -> Result<()> {
        let configuration = format!(
            "apiVersion: kubeadm.k8s.io/v1beta4
kind: InitConfiguration
localAPIEndpoint: {{ advertiseAddress: {HERE}, bindPort: {port} }}
nodeRegistration: {{ name: control, criSocket: unix:///run/none }}
---
apiVersion: kubeadm.k8s.io/v1beta4
kind: ClusterConfiguration
clusterName: dob
kubernetesVersion: {version}
certificatesDir: {pki}
controlPlaneEndpoint: {API_SERVER}
apiServer: {{ certSANs: [127.0.0.1] }}
networking: {{ serviceSubnet: {SERVICES}, podSubnet: {PODS} }}
etcd: {{ external: {{ endpoints: [\"{ETCD}\"] }} }}
",
            port = API_SERVER.port(),
            version = self.parts.kubernetes,
            pki = self.directory.join("pki").display(),
        );
        fs::write(self.directory.join("kubeadm.yaml"), configuration)?;
        self.kubeadm(&["init", "phase", "certs", "all"])?;
        self.kubeadm(&["init", "phase", "kubeconfig", "all", "--kubeconfig-dir", &self.directory.to_string_lossy()])
    }

    fn kubeadm(&self, arguments: &[&str]) -> Result<()> {
        let configuration = self.directory.join("kubeadm.yaml");
        let arguments = arguments.iter().map(|argument| argument.to_string());
        let arguments = arguments.chain(["--config".to_owned(), configuration.display().to_string()]);
        read(&cmd(self.parts.program("kubeadm")?, arguments)).map(drop)
    }

    fn start_etcd(&self) -> Result<Daemon> {
        let mut etcd = Command::new("etcd");
        etcd.arg("--data-dir").arg(self.directory.join("etcd")).arg("--unsafe-no-fsync");
        etcd.args(["--listen-client-urls", ETCD, "--advertise-client-urls", ETCD]);
        etcd.args(["--listen-peer-urls", "http://127.0.0.1:2380"]);
        Daemon::start(&self.directory, "etcd", &mut etcd)
    }

    fn start_api_server(&self) -> Result<Daemon> {
        let mut server = Command::new(self.parts.program("kube-apiserver")?);
        let pki = |name| self.certificate(name).display().to_string();
        let flags = [
            ("etcd-servers", ETCD.to_owned()),
            ("advertise-address", HERE.to_string()),
            ("secure-port", API_SERVER.port().to_string()),
            ("client-ca-file", pki("ca.crt")),
            ("tls-cert-file", pki("apiserver.crt")),
            ("tls-private-key-file", pki("apiserver.key")),
            ("kubelet-client-certificate", pki("apiserver-kubelet-client.crt")),
            ("kubelet-client-key", pki("apiserver-kubelet-client.key")),
            ("kubelet-preferred-address-types", "InternalIP".to_owned()),
            ("service-account-issuer", "https://kubernetes.default.svc".to_owned()),
            ("service-account-key-file", pki("sa.pub")),
            ("service-account-signing-key-file", pki("sa.key")),
            ("service-cluster-ip-range", SERVICES.to_owned()),
            ("authorization-mode", "Node,RBAC".to_owned()),
            ("enable-admission-plugins", "NodeRestriction".to_owned()),
            ("allow-privileged", "true".to_owned()),
            // metrics-server serves a part of the API and authenticates the API server by these.
            ("requestheader-client-ca-file", pki("front-proxy-ca.crt")),
            ("requestheader-allowed-names", "front-proxy-client".to_owned()),
            ("requestheader-extra-headers-prefix", "X-Remote-Extra-".to_owned()),
            ("requestheader-group-headers", "X-Remote-Group".to_owned()),
            ("requestheader-username-headers", "X-Remote-User".to_owned()),
            ("proxy-client-cert-file", pki("front-proxy-client.crt")),
            ("proxy-client-key-file", pki("front-proxy-client.key")),
            ("enable-aggregator-routing", "true".to_owned()),
        ];
        server.args(flags.map(|(name, value)| format!("--{name}={value}")));
        Daemon::start(&self.directory, "kube-apiserver", &mut server)
    }

    fn start_controller_manager(&self) -> Result<Daemon> {
        let mut manager = self.with_kubeconfig("kube-controller-manager", "controller-manager")?;
        let pki = |name| self.certificate(name).display().to_string();
        let flags = [
            ("service-account-private-key-file", pki("sa.key")),
            ("root-ca-file", pki("ca.crt")),
            ("cluster-signing-cert-file", pki("ca.crt")),
            ("cluster-signing-key-file", pki("ca.key")),
            ("use-service-account-credentials", "true".to_owned()),
            ("service-cluster-ip-range", SERVICES.to_owned()),
        ];
        manager.args(flags.map(|(name, value)| format!("--{name}={value}")));
        Daemon::start(&self.directory, "kube-controller-manager", &mut manager)
    }

    fn start_scheduler(&self) -> Result<Daemon> {
        let mut scheduler = self.with_kubeconfig("kube-scheduler", "scheduler")?;
        Daemon::start(&self.directory, "kube-scheduler", &mut scheduler)
    }

    fn with_kubeconfig(&self, program: &str, account: &str) -> Result<Command> {
        let mut command = Command::new(self.parts.program(program)?);
        for flag in ["kubeconfig", "authentication-kubeconfig", "authorization-kubeconfig"] {
            command.arg(format!("--{flag}={}", self.configuration(account).display()));
        }
        // There is one of each. On a busy machine it would lose its lease, and end.
        command.arg("--leader-elect=false");
        Ok(command)
    }
}
