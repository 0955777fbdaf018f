//! What the operating system says of this process. Where it does not say (another one than Linux), nothing is made up.

use schemars::JsonSchema;
use serde::Serialize;

/// This process, as the system sees it; null where it does not say.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Process {
    /// Resident.
    pub memory_bytes: Option<u64>,
    /// User and system time since the start.
    pub cpu_seconds: Option<f64>,
    pub open_files: Option<u64>,
    pub threads: Option<u64>,
}

impl Process {
    pub fn read() -> Self {
        let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        Self {
            memory_bytes: field(&status, "VmRSS:").map(|kibibytes| kibibytes * 1024),
            cpu_seconds: Some(cpu_seconds()),
            open_files: std::fs::read_dir("/proc/self/fd").ok().map(|files| files.count() as u64),
            threads: field(&status, "Threads:"),
        }
    }
}

fn field(status: &str, name: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()?.parse().ok()
}

fn cpu_seconds() -> f64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn linux_says_everything() {
        let process = Process::read();
        assert!(process.memory_bytes.unwrap() > 1 << 20, "{process:?}");
        assert!(process.cpu_seconds.unwrap() > 0.0 && process.threads.unwrap() > 0 && process.open_files.unwrap() > 2);
    }
}
