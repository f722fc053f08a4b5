//! A node's member of etcd.

use crate::node::Node;
use anyhow::Result;

/// Where a limit to etcd's room is stored. It is gone after a power cut.
const LIMITED: &str = "/run/systemd/system/etcd.service.d";
/// The key that `fill_etcd` writes, the size of a value, and how many values fill etcd at most.
const FILLER: &str = "/filler";
const VALUE_BYTES: usize = 1 << 20;
const WRITES: usize = 200;
/// Lets etcdctl ask the node's own member.
const OWN: &str = "source /usr/local/sbin/dob-lib; export ETCDCTL_ENDPOINTS=https://$DOB_ADDRESS:$DOB_PORT_ETCD";

impl Node {
    /// The ID of its etcd member. A member keeps its ID as long as it keeps its data.
    pub async fn etcd_member(&self) -> Result<String> {
        let id = format!("{OWN}; etcdctl endpoint status --write-out=json | jq '.[].Status.header.member_id'");
        self.until("etcd tells its member", &id).await
    }

    /// Waits until etcd has this many members, all healthy as seen from this node.
    pub async fn until_etcd_has(&self, members: usize) -> Result<()> {
        let healthy = format!(
            "{OWN}
             etcdctl endpoint health --cluster | grep -c 'is healthy' | grep -qx {members}"
        );
        self.until(&format!("{members} healthy members of etcd"), &healthy).await.map(drop)
    }

    /// Makes this node's member etcd's leader.
    pub async fn lead_etcd(&self) -> Result<()> {
        let lead = "source /usr/local/sbin/dob-lib
             ETCDCTL_ENDPOINTS=$(etcd_of \"$DOB_MEMBERS\"); export ETCDCTL_ENDPOINTS
             members=$(etcdctl endpoint status --write-out=json)
             own=$(jq \".[] | select(.Endpoint | contains(\\\"//$DOB_ADDRESS:\\\")).Status.header.member_id\" <<<\"$members\")
             leads=$(jq --raw-output '.[] | select(.Status.header.member_id == .Status.leader).Endpoint' <<<\"$members\")
             [[ $leads == *//$DOB_ADDRESS:* ]] || ETCDCTL_ENDPOINTS=$leads etcdctl move-leader $(printf %x $own)";
        self.until("its member leads etcd", lead).await.map(drop)
    }

    /// Kills etcd and deletes its data.
    pub async fn lose_etcd(&self) -> Result<()> {
        let lose = "systemctl kill --signal=KILL etcd; systemctl stop etcd; rm -r /var/lib/etcd/*/member";
        self.script(lose).await.map(drop)
    }

    /// Kills etcd, overwrites the beginning of its database, and waits until etcd can't start for it.
    pub async fn damage_etcd(&self) -> Result<()> {
        let damage = "systemctl kill --signal=KILL etcd; systemctl stop etcd
             dd if=/dev/urandom of=$(ls /var/lib/etcd/*/member/snap/db) bs=8K count=1 conv=notrunc status=none
             systemctl start --no-block etcd";
        self.script(damage).await?;
        self.until_logged("etcd", "panic: ").await
    }

    /// Leaves what an interrupted first start of its member leaves.
    pub async fn interrupt_first_start_of_etcd(&self) -> Result<()> {
        let unfinished = "setpriv --reuid=etcd --regid=etcd --init-groups mkdir -p /var/lib/etcd/dob/member/snap
             echo unfinished >/var/lib/etcd/dob/member/snap/db";
        self.script(unfinished).await.map(drop)
    }

    /// Runs dob-etcd-alone, and kills it as soon as it has started etcd again.
    pub async fn kill_etcd_alone(&self) -> Result<()> {
        let kill = "touch /run/before
             dob-etcd-alone --others-are-gone >/dev/null 2>&1 &
             for _ in {1..1200}; do
                 [[ ! /run/dob/etcd.env -nt /run/before ]] || { kill -KILL $!; exit; }
                 sleep 0.05
             done
             echo 'dob-etcd-alone has not started etcd again within a minute' >&2
             exit 1";
        self.script(kill).await.map(drop)
    }

    /// Restarts its member with room for this many bytes.
    pub async fn limit_etcd(&self, bytes: usize) -> Result<()> {
        let limit = format!(
            "mkdir -p {LIMITED}
             printf '[Service]\\nEnvironment=ETCD_QUOTA_BACKEND_BYTES={bytes}\\n' >{LIMITED}/room.conf
             systemctl daemon-reload
             systemctl restart etcd"
        );
        self.script(&limit).await.map(drop)
    }

    /// Undoes `limit_etcd`, and lifts the alarm that etcd was full.
    pub async fn give_etcd_room(&self) -> Result<()> {
        let give = format!(
            "if [[ -e {LIMITED}/room.conf ]]; then
                 rm {LIMITED}/room.conf
                 systemctl daemon-reload
                 systemctl restart etcd
             fi
             {OWN}
             etcdctl alarm disarm >/dev/null || true"
        );
        self.script(&give).await.map(drop)
    }

    /// Writes new values of one key until etcd has no room for the old ones.
    pub async fn fill_etcd(&self) -> Result<()> {
        let fill = format!(
            "{OWN}
             for _ in $(seq {WRITES}); do
                 said=$(head --bytes={VALUE_BYTES} /dev/zero | tr '\\0' x | etcdctl put {FILLER} 2>&1) || break
             done
             grep --quiet 'database space exceeded' <<<\"$said\" || {{ echo \"etcd is not full: $said\"; exit 1; }}"
        );
        self.script(&fill).await.map(drop)
    }

    /// The alarms that etcd's members have raised, or nothing.
    pub async fn etcd_alarms(&self) -> Result<String> {
        self.script(&format!("{OWN}; etcdctl alarm list")).await
    }
}
