//! Commands with a deadline.

use anyhow::{Context, Result, bail, ensure};
use duct::Expression;
use std::fs::File;
use std::process::Output;
use std::time::Duration;

/// The deadline of a command that works only on this machine.
const DEADLINE: Duration = Duration::from_secs(60);

/// Runs a command and returns its output without the trailing newline. An error contains its stderr.
pub fn read(command: &Expression) -> Result<String> {
    read_within(DEADLINE, command)
}

/// The same with this deadline, after which the command is killed.
pub fn read_within(deadline: Duration, command: &Expression) -> Result<String> {
    let output = end(deadline, command.stdout_capture().stderr_capture())?;
    if !output.status.success() {
        bail!("{command:?} failed: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim_end().to_owned())
}

/// Runs a command, and writes its output to a log.
pub fn run_logged(deadline: Duration, command: &Expression, log: &File) -> Result<()> {
    let output = end(deadline, command.stdout_file(log.try_clone()?).stderr_file(log.try_clone()?))?;
    ensure!(output.status.success(), "{command:?} failed");
    Ok(())
}

fn end(deadline: Duration, command: Expression) -> Result<Output> {
    let name = format!("{command:?}");
    let handle = command.stdin_null().unchecked().start();
    let handle = handle.with_context(|| format!("can't run {name}: is it installed?"))?;
    let Some(output) = handle.wait_timeout(deadline)? else {
        handle.kill()?;
        bail!("{name} did not end within {deadline:?}");
    };
    Ok(output.clone())
}

#[cfg(test)]
mod tests {
    use super::*;
    use duct::cmd;

    #[test]
    fn output_is_returned_on_success_and_on_failure() {
        assert_eq!(read(&cmd!("echo", "hello")).unwrap(), "hello");
        let error = read(&cmd!("sh", "-c", "echo no such thing >&2; exit 3")).unwrap_err().to_string();
        assert!(error.ends_with("failed: no such thing"), "{error}");
        let error = read(&cmd!("no-such-program")).unwrap_err().to_string();
        assert!(error.contains("no-such-program") && error.ends_with("is it installed?"), "{error}");
    }

    #[test]
    fn a_command_that_hangs_is_killed() {
        let error = read_within(Duration::from_millis(50), &cmd!("sleep", "60")).unwrap_err().to_string();
        assert!(error.ends_with("did not end within 50ms"), "{error}");
    }
}
