//! A process that ends with its owner.

use anyhow::{Context, Result, anyhow, bail};
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, ExitStatus};
use std::sync::mpsc;
use std::time::{Duration, Instant};
use wait_timeout::ChildExt;

/// A running program. Dropping it kills the program and waits for its end.
pub struct Process(pub Child);

impl Process {
    /// Starts a program. `hint` says what to do if it is missing.
    pub fn spawn(command: &mut Command, hint: &str) -> Result<Self> {
        let child = command.spawn();
        child.map(Self).with_context(|| format!("{} is missing: {hint}", command.get_program().to_string_lossy()))
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.0.id()
    }

    /// Waits until it prints a line with this text, and returns its output so far. Its stdout must be piped; later output is read and
    /// discarded.
    pub fn until_printed(&mut self, text: &str, deadline: Duration) -> Result<String> {
        let output = self.0.stdout.take().context("its output is not piped")?;
        let (sender, lines) = mpsc::channel();
        std::thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                // Once the text was found, nobody receives any more.
                let _ = sender.send(line);
            }
        });
        let (started, mut printed) = (Instant::now(), String::new());
        loop {
            let line = lines.recv_timeout(deadline.saturating_sub(started.elapsed())).map_err(|error| match error {
                mpsc::RecvTimeoutError::Timeout => {
                    anyhow!("it does not print \"{text}\" within {deadline:?}: {printed}")
                }
                mpsc::RecvTimeoutError::Disconnected => anyhow!("it ended before it printed \"{text}\": {printed}"),
            })?;
            printed += &line;
            printed.push('\n');
            if line.contains(text) {
                return Ok(printed);
            }
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Waits for a program's end. `what` names it in the error if it does not end in time.
pub fn end_within(deadline: Duration, what: &str, child: &mut Child) -> Result<ExitStatus> {
    match child.wait_timeout(deadline)? {
        Some(status) => Ok(status),
        None => bail!("{what} does not end within {deadline:?}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Stdio;

    fn shell(script: &str) -> Process {
        Process::spawn(Command::new("sh").args(["-c", script]).stdout(Stdio::piped()), "a shell").unwrap()
    }

    #[test]
    fn waiting_for_a_line_ends_with_the_output_or_at_the_deadline() {
        let printed = shell("echo one; echo two; echo three").until_printed("two", Duration::from_secs(10)).unwrap();
        assert_eq!(printed, "one\ntwo\n");
        let error = shell("echo one").until_printed("two", Duration::from_secs(10)).unwrap_err().to_string();
        assert_eq!(error, "it ended before it printed \"two\": one\n");
        let error = shell("sleep 60").until_printed("two", Duration::from_millis(50)).unwrap_err().to_string();
        assert!(error.starts_with("it does not print \"two\" within 50ms"), "{error}");
    }
}
