//! Changes in Secrets Manager, made from a node.

use crate::node::Node;
use anyhow::Result;

/// The secret with the cluster's passwords.
const PASSWORDS: &str = "dob/passwords";

impl Node {
    /// Writes new passwords of all the cluster's roles to these regions' Secrets Manager. Returns dob_admin's.
    pub async fn change_passwords(&self, regions: &[&str]) -> Result<String> {
        let change = format!(
            r#"aws="aws secretsmanager --output text --region"
            new() {{ openssl rand -hex 16; }}
            secret=$($aws {region} get-secret-value --secret-id {PASSWORDS} --query SecretString |
                jq -c --arg r $(new) --arg w $(new) --arg a $(new) '. + {{replication: $r, rewind: $w, admin: $a}}')
            for region in {regions}; do
                $aws $region put-secret-value --secret-id {PASSWORDS} --secret-string "$secret" >/dev/null
            done
            jq -r .admin <<<"$secret""#,
            region = self.region,
            regions = regions.join(" "),
        );
        self.script(&change).await
    }

    /// Deletes the secret with the passwords in the node's region. Returns its value.
    pub async fn delete_passwords(&self) -> Result<String> {
        let read = self.secrets_manager(&format!("get-secret-value --secret-id {PASSWORDS} --query SecretString"));
        let delete =
            self.secrets_manager(&format!("delete-secret --secret-id {PASSWORDS} --force-delete-without-recovery"));
        self.script(&format!("{read}; {delete} >/dev/null")).await
    }

    /// Creates the secret with the passwords again.
    pub async fn make_passwords(&self, secret: &str) -> Result<()> {
        let create = format!("create-secret --name {PASSWORDS} --secret-string '{secret}'");
        self.script(&self.secrets_manager(&create)).await.map(drop)
    }

    fn secrets_manager(&self, command: &str) -> String {
        format!("aws secretsmanager --region {} --output text {command}", self.region)
    }
}
