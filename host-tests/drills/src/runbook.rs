//! The commands of the runbooks, read from their text, so that a drill runs what a person would type.

use anyhow::{Context, Result};
use dob_lab::Node;

const RUNBOOKS: &str = include_str!("../../../docs/runbooks.md");
/// The aliases of the section "How to run a command", as functions, because a script has no aliases.
const ALIASES: &str = r#"psql() { runuser -u postgres -- psql "$@"; }
patronictl() { command patronictl --config-file /etc/dob/patroni "$@"; }"#;

/// A section of the runbooks.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Section(pub &'static str);

impl Section {
    /// Runs commands of this section in one session on a node, with these words replaced. Returns what they print.
    pub async fn run(&self, node: &Node, names: &[&str], words: &[(&str, &str)]) -> Result<String> {
        let commands = names.iter().map(|name| self.commands(name)).collect::<Result<Vec<_>>>()?.join("\n");
        let script = words.iter().fold(commands, |script, (word, value)| script.replace(word, value));
        let why = || format!("the runbook's commands {names:?} failed on {}", node.name);
        node.run(&["bash", "-c", &format!("{ALIASES}\n{script}")]).await.with_context(why)
    }

    /// The block of commands whose first line begins with this name, without its indent.
    pub fn commands(&self, name: &str) -> Result<String> {
        let section = RUNBOOKS.split(&format!("\n## {}\n", self.0)).nth(1);
        let section = section.with_context(|| format!("the runbooks have no section '{}'", self.0))?;
        let section = section.split("\n## ").next().unwrap_or_default();
        let mut blocks = section.split("```sh\n").skip(1).filter_map(|rest| rest.split("```").next());
        let block = blocks.find(|block| block.trim_start().starts_with(&format!("# {name}: ")));
        let block = block.with_context(|| format!("the runbook '{}' has no commands '{name}'", self.0))?;
        let indent = block.len() - block.trim_start().len();
        Ok(block.lines().map(|line| line.get(indent..).unwrap_or_default()).collect::<Vec<_>>().join("\n"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_runbooks_have_the_commands_of_the_drills() {
        let upgrade = ["session", "prepare", "offer", "copy", "copied", "stop-saves", "follow", "start-saves", "end"];
        let sections: [(&str, &[&str]); 6] = [
            ("Upgrade PostgreSQL to a major version", &upgrade),
            ("etcd is full", &["session", "make-room"]),
            ("etcd is lost", &["new-member"]),
            ("Two nodes of a region lead", &["stop"]),
            ("A checkpoint does not end", &["end-connection"]),
            ("A transaction holds up vacuum", &["oldest", "end"]),
        ];
        let aliases = "alias patronictl='patronictl --config-file /etc/dob/patroni' psql='runuser -u postgres -- psql'";
        assert!(RUNBOOKS.contains(aliases), "ALIASES must do what the runbooks' aliases do");
        for (section, names) in sections {
            for name in names {
                assert!(Section(section).commands(name).is_ok(), "{section}: {name}");
            }
        }
    }

    #[test]
    fn commands_have_no_indent_and_unknown_ones_are_an_error() {
        let section = Section("Upgrade PostgreSQL to a major version");
        let end = section.commands("end").unwrap();
        assert!(end.lines().any(|line| line == "END"), "{end}");
        assert!(section.commands("typo").is_err());
        assert!(Section("No such section").commands("end").is_err());
    }
}
