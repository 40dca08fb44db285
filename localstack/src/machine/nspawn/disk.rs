//! A machine's files: what differs from the image before its first boot.
//!
//! Only what the hypervisor and the VPC give a machine (its name, its GPUs); everything else is in the image, or
//! comes as user data.

use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::Context;

use crate::machine::MachineSpec;
use crate::machine::command::run;
use crate::machine::imds::short_hostname;

/// GetConsoleOutput gives the last 64 KiB, too.
const CONSOLE_LIMIT: u64 = 64 << 10;

/// Where a machine's files lie.
#[derive(Clone, Debug)]
pub(super) struct Disk {
    pub(super) dir: PathBuf,
}

impl Disk {
    pub(super) fn console(&self) -> PathBuf {
        self.dir.join("console.log")
    }

    pub(super) fn agent_socket(&self) -> PathBuf {
        self.dir.join("agent")
    }

    pub(super) fn notify_socket(&self) -> PathBuf {
        self.dir.join("notify")
    }

    /// What it wrote to its console, the last 64 KiB of it.
    pub(super) fn console_text(&self) -> String {
        use std::io::{Read, Seek, SeekFrom};
        let read = || -> std::io::Result<Vec<u8>> {
            let mut file = fs::File::open(self.console())?;
            let length = file.metadata()?.len();
            file.seek(SeekFrom::Start(length.saturating_sub(CONSOLE_LIMIT)))?;
            let mut text = Vec::new();
            file.take(CONSOLE_LIMIT).read_to_end(&mut text)?;
            Ok(text)
        };
        // A terminal ends its lines with both; a serial console's reader wants one.
        String::from_utf8_lossy(&read().unwrap_or_default()).replace("\r\n", "\n")
    }

    /// Makes the files of a machine that never booted.
    pub(super) async fn create(&self, spec: &MachineSpec, image: &Path) -> anyhow::Result<()> {
        for folder in ["upper", "work", "root", "cgroup", "upper/etc"] {
            make_folder(&self.dir.join(folder))?;
        }
        // Overlay does not stack on overlay, so containerd's store is a plain folder.
        let store = self.dir.join("containerd");
        run("cp", &["-a", "--reflink=auto", &text(&image.join("containerd"))?, &text(&store)?]).await?;
        let upper = self.dir.join("upper");
        for (path, mode, content) in files(spec, &uuid::Uuid::new_v4().simple().to_string()) {
            let path = upper.join(path);
            make_folder(path.parent().expect("every path here has a folder"))?;
            fs::write(&path, content).with_context(|| format!("cannot write `{}`", path.display()))?;
            fs::set_permissions(&path, fs::Permissions::from_mode(mode))?;
        }
        Ok(())
    }

    /// Removes them. Idempotent.
    pub(super) fn remove(&self) -> anyhow::Result<()> {
        match fs::remove_dir_all(&self.dir) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(error).with_context(|| format!("cannot remove `{}`", self.dir.display()))
            }
            Ok(()) | Err(_) => Ok(()),
        }
    }
}

/// With the mode that the folder has in the image: in an overlay, the upper one's counts.
fn make_folder(path: &Path) -> anyhow::Result<()> {
    if path.is_dir() {
        return Ok(());
    }
    if let Some(parent) = path.parent() {
        make_folder(parent)?;
    }
    fs::create_dir(path).with_context(|| format!("cannot make `{}`", path.display()))?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o755))?;
    Ok(())
}

fn text(path: &Path) -> anyhow::Result<String> {
    path.to_str().map(str::to_owned).with_context(|| format!("path `{}` is not UTF-8", path.display()))
}

/// Path, mode and content of every file.
fn files(spec: &MachineSpec, machine_id: &str) -> Vec<(&'static str, u32, String)> {
    let host = short_hostname(spec);
    let mut files = vec![
        ("etc/hostname", 0o644, format!("{host}\n")),
        ("etc/machine-id", 0o444, format!("{machine_id}\n")),
        ("etc/hosts", 0o644, format!("127.0.0.1 localhost\n{} {host}\n", spec.private_ip)),
    ];
    if spec.gpus > 0 {
        files.push(("usr/bin/nvidia-smi", 0o755, nvidia_smi(spec)));
        let runtime = "#!/bin/sh\nexec /usr/sbin/runc \"$@\"\n";
        files.push(("usr/bin/nvidia-container-runtime", 0o755, runtime.to_owned()));
        if has_nvswitch(spec) {
            let unit = "[Service]\nType=oneshot\nRemainAfterExit=yes\nExecStart=/bin/true\n";
            files.push(("etc/systemd/system/nvidia-fabricmanager.service", 0o644, unit.to_owned()));
        }
    }
    files
}

/// Those types' driver works only once the fabric manager has joined the GPUs.
fn has_nvswitch(spec: &MachineSpec) -> bool {
    spec.gpus >= 8 && ["A100", "H100", "H200", "B200"].iter().any(|model| spec.gpu_model.contains(model))
}

/// MiB of memory as the driver reports it.
fn gpu_memory(model: &str) -> u32 {
    [
        ("T4G", 15360),
        ("T4", 15360),
        ("V100", 16384),
        ("A10G", 23028),
        ("L40S", 46068),
        ("L4", 23034),
        ("A100", 40960),
        ("H200", 143_771),
        ("H100", 81559),
        ("B200", 183_359),
    ]
    .iter()
    .find(|(name, _)| model.contains(name))
    .map_or(24576, |(_, mib)| *mib)
}

/// A driver that never works: it says what is there. A table of a line per GPU, and a shell's way to read it.
fn nvidia_smi(spec: &MachineSpec) -> String {
    let model = if spec.gpu_model.starts_with("NVIDIA") {
        spec.gpu_model.clone()
    } else {
        format!("NVIDIA {}", spec.gpu_model)
    };
    // As if the serial number of the board were the instance's.
    let digits = format!("{:0>30}", spec.id.trim_start_matches("i-"));
    let mut list = String::new();
    let mut table = String::new();
    for index in 0..spec.gpus {
        let uuid = format!(
            "GPU-{}-{}-{}-{}-{}{index:02x}",
            &digits[..8],
            &digits[8..12],
            &digits[12..16],
            &digits[16..20],
            &digits[20..30]
        );
        let memory = gpu_memory(&model);
        writeln!(list, "GPU {index}: {model} (UUID: {uuid})").expect("writing to a string does not fail");
        writeln!(table, "{index}|{model}|{uuid}|{memory}|00000000:00:{:02X}.0", 0x1b + index)
            .expect("writing to a string does not fail");
    }
    NVIDIA_SMI
        .replace("@LIST@", list.trim_end())
        .replace("@TABLE@", table.trim_end())
        .replace("@COUNT@", &spec.gpus.to_string())
}

const NVIDIA_SMI: &str = include_str!("nvidia-smi.sh");

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;
    use crate::machine::tests::mk_spec;

    fn smi(spec: &MachineSpec, args: &[&str]) -> String {
        let output =
            Command::new("sh").args(["-c", &nvidia_smi(spec), "nvidia-smi"]).args(args).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    #[test]
    fn nvidia_smi_lists_the_gpus_of_the_type() {
        let spec = MachineSpec { gpus: 2, ..mk_spec() };
        insta::assert_snapshot!(smi(&spec, &["-L"]), @r"
        GPU 0: NVIDIA A10G (UUID: GPU-00000000-0000-0012-3456-789abcdef000)
        GPU 1: NVIDIA A10G (UUID: GPU-00000000-0000-0012-3456-789abcdef001)
        ");
    }

    #[test]
    fn nvidia_smi_answers_queries_in_the_order_of_their_fields() {
        let query = ["--query-gpu=name,index,memory.total,utilization.gpu,secret", "--format=csv"];
        insta::assert_snapshot!(smi(&mk_spec(), &query), @r"
        name, index, memory.total [MiB], utilization.gpu [%], secret
        NVIDIA A10G, 0, 23028 MiB, 0 %, [N/A]
        ");
        let plain = ["--query-gpu=memory.total,uuid", "--format=csv,noheader,nounits"];
        assert_eq!(smi(&mk_spec(), &plain), "23028, GPU-00000000-0000-0012-3456-789abcdef000\n");
    }

    #[test]
    fn nvidia_smi_goes_on_with_rows_alone_and_names_what_may_be_asked() {
        let help = smi(&mk_spec(), &["--help-query-gpu"]);
        assert!(help.lines().any(|line| line == "\"utilization.gpu\""), "{help}");
        let script = nvidia_smi(&mk_spec());
        let arguments = ["nvidia-smi", "--query-gpu=index,name", "--format=csv", "-lms", "50"];
        let output =
            Command::new("timeout").args(["1", "sh", "-c", &script]).args(arguments).output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(text.starts_with("index, name\n0, NVIDIA A10G\n0, NVIDIA A10G\n0, NVIDIA A10G\n"), "{text}");
        assert_eq!(text.matches("index").count(), 1, "{text}");
    }

    #[test]
    fn a_type_without_gpus_has_nothing_of_them() {
        let paths =
            |spec: &MachineSpec| files(spec, "0").into_iter().map(|(path, _, _)| path).collect::<Vec<_>>();
        let base = ["etc/hostname", "etc/machine-id", "etc/hosts"];
        assert_eq!(paths(&MachineSpec { gpus: 0, ..mk_spec() }), base);
        assert_eq!(paths(&mk_spec()).len(), base.len() + 2);
        let big = MachineSpec { gpus: 8, gpu_model: "H100".into(), ..mk_spec() };
        assert_eq!(paths(&big).last(), Some(&"etc/systemd/system/nvidia-fabricmanager.service"));
    }

    #[test]
    fn the_console_is_its_last_64_kib() {
        let disk = Disk { dir: std::env::temp_dir().join(uuid::Uuid::new_v4().to_string()) };
        assert_eq!(disk.console_text(), "");
        fs::create_dir(&disk.dir).unwrap();
        fs::write(disk.console(), format!("first{}\r\nlast", "x".repeat(70 << 10))).unwrap();
        let text = disk.console_text();
        assert!(text.ends_with("x\nlast") && !text.contains("first"));
        disk.remove().unwrap();
        disk.remove().unwrap();
    }
}
