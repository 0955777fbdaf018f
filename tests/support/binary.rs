//! The real binary, as a shell would run it; killed when dropped.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use super::{Conf, compiled};

/// `aiproxy-host` with these arguments and without the surroundings of the test run.
pub fn aiproxy(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_aiproxy-host"));
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy().to_ascii_uppercase();
        if text.starts_with("AIPROXY_") || text.ends_with("_PROXY") || text.ends_with("_API_KEY") {
            command.env_remove(name);
        }
    }
    command.args(arguments).stdin(Stdio::null());
    command
}

/// What became of a command that ended.
#[derive(Debug)]
pub struct Ran {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

/// Runs to its end; the test's own upstreams go on meanwhile.
pub async fn run(mut command: Command) -> Ran {
    let output = tokio::task::spawn_blocking(move || command.output()).await.expect("no panic").expect("it runs");
    let text = |bytes| String::from_utf8(bytes).expect("text is UTF-8");
    Ran { code: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr) }
}

/// A running `serve`.
pub struct Server {
    pub address: SocketAddr,
    pub child: Child,
    stderr: PathBuf,
}

impl Server {
    /// `serve` of a written configuration on a free port, with `AIPROXY_LOG` set to `log`.
    pub async fn start(conf: &Conf, log: &str) -> Self {
        conf.write();
        compiled::lend(&conf.state());
        let mut command = aiproxy(&["serve", "--listen", "127.0.0.1:0", "--workers", "2"]);
        command.env("AIPROXY_LOG", log).arg("--conf").arg(conf.conf());
        command.arg("--plugins").arg(conf.plugins()).arg("--state").arg(conf.state());
        Self::spawn(command, conf.folder()).await
    }

    /// Any command that serves; its stderr goes to a file in `folder`.
    pub async fn spawn(mut command: Command, folder: &Path) -> Self {
        let stderr = folder.join("stderr");
        command.stdout(Stdio::piped()).stderr(File::create(&stderr).expect("a file"));
        let mut child = command.spawn().expect("it runs");
        let mut stdout = BufReader::new(child.stdout.take().expect("a pipe"));
        let line = tokio::task::spawn_blocking(move || {
            let mut line = String::new();
            stdout.read_line(&mut line).expect("its first line");
            // Nobody reads further: a full pipe must not stop it.
            std::thread::spawn(move || stdout.read_to_end(&mut Vec::new()));
            line
        })
        .await
        .expect("no panic");
        let address = line.trim().strip_prefix("listening on http://").and_then(|address| address.parse().ok());
        let Some(address) = address else {
            let _ = child.kill();
            panic!("{line:?}: {}", std::fs::read_to_string(&stderr).unwrap_or_default());
        };
        Self { address, child, stderr }
    }

    /// What it has logged so far.
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(&self.stderr).expect("a file")).into_owned()
    }

    /// SIGTERM, then its exit code.
    pub async fn end(&mut self) -> Option<i32> {
        let id = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(id, rustix::process::Signal::TERM).expect("it runs");
        loop {
            if let Some(status) = self.child.try_wait().expect("a child") {
                return status.code();
            }
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
