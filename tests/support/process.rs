//! The real binary: what only a process can show (signals, exit codes, memory).

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};

use rustix::process::{Pid, Signal, kill_process};

use super::{Conf, soon};

pub struct Process {
    pub address: SocketAddr,
    /// As its first line says it.
    pub url: String,
    pub conf: Conf,
    child: Child,
    _stdout: BufReader<std::process::ChildStdout>,
}

impl Process {
    /// Writes the configuration, starts `serve` on it and waits for its line.
    pub async fn start(conf: Conf) -> Self {
        conf.write();
        let mut child = command(&conf, &conf.state()).spawn().expect("the binary runs");
        let stdout = child.stdout.take().expect("stdout is a pipe");
        let started = tokio::task::spawn_blocking(move || {
            let mut stdout = BufReader::new(stdout);
            let mut line = String::new();
            stdout.read_line(&mut line).expect("stdout can be read");
            (stdout, line)
        });
        let (stdout, line) = soon("the line that says where it listens", started).await.expect("no panic");
        let url = line.trim().strip_prefix("listening on ").unwrap_or_default();
        let address = url.split_once("://").and_then(|(_, address)| address.parse().ok());
        let log = || std::fs::read_to_string(conf.folder().join("stderr.log")).unwrap_or_default();
        let address = address.unwrap_or_else(|| panic!("{line:?}\n{}", log()));
        Self { address, url: url.to_owned(), conf, child, _stdout: stdout }
    }

    pub fn signal(&self, signal: Signal) {
        kill_process(self.pid(), signal).expect("the process takes signals");
    }

    /// Waits until the process has ended.
    pub async fn ended(&mut self) -> ExitStatus {
        let child = &mut self.child;
        soon("the process's end", async {
            loop {
                if let Some(status) = child.try_wait().expect("the process is ours") {
                    return status;
                }
                tokio::time::sleep(std::time::Duration::from_millis(5)).await;
            }
        })
        .await
    }

    /// The most memory that the process ever had, in bytes.
    pub fn memory_peak_bytes(&self) -> usize {
        self.memory("VmHWM:")
    }

    /// The memory that the process has now, in bytes.
    pub fn memory_bytes(&self) -> usize {
        self.memory("VmRSS:")
    }

    fn memory(&self, field: &str) -> usize {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).expect("it runs on Linux");
        let line = status.lines().find_map(|line| line.strip_prefix(field)).expect("such a field");
        let kib: usize = line.trim().trim_end_matches(" kB").parse().expect("a number");
        kib * 1024
    }

    /// The operational log so far.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.conf.folder().join("stderr.log")).unwrap_or_default()
    }

    fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// `aiproxy-host serve` on this configuration, on a free port.
pub fn command(conf: &Conf, state: &Path) -> Command {
    let log = std::fs::File::create(conf.folder().join("stderr.log")).expect("a file can be written");
    let mut command = Command::new(env!("CARGO_BIN_EXE_aiproxy-host"));
    command.args(["serve", "--listen", "127.0.0.1:0", "--workers", "2", "--conf"]).arg(conf.conf());
    command.arg("--plugins").arg(conf.plugins()).arg("--state").arg(state);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(log);
    command
}
