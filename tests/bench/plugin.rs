//! The tunnel beside the vendor's own client of it: SSH over session-manager-plugin, through the same local cloud.

use std::io::{Read, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, ensure};

use crate::gauge::count;
use crate::table::Table;
use crate::tunnel::Figures;
use crate::world::{CLOUD, Namespace, World, cache, text};

const MIB: usize = 16;
const ROUND_TRIPS: usize = 30;

pub(crate) fn measure(table: &mut Table) -> Result<()> {
    let world = World::start_with(&[])?;
    let result = world.in_namespace(|ns| beside(ns, table));
    world.stop().and(result)
}

fn beside(ns: &Namespace<'_>, table: &mut Table) -> Result<()> {
    let folder = std::env::temp_dir().join(&ns.name);
    std::fs::create_dir_all(&folder)?;
    let key = folder.join("key");
    let made = Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(&key).status()?;
    ensure!(made.success(), "ssh-keygen ended with {made}");
    let public = std::fs::read_to_string(key.with_extension("pub"))?;
    ns.ready_pod(
        "host",
        "volumes: [{name: host, hostPath: {path: /}}]\ncontainers: [{name: main, image: 'busybox:stable', \
         command: [sleep, infinity], volumeMounts: [{name: host, mountPath: /host}]}]",
    )?;
    let put = format!(
        "mkdir -p -m 700 /host/root/.ssh && echo '{}' >> /host/root/.ssh/authorized_keys",
        public.trim()
    );
    ns.run(&["exec", "host", "--", "sh", "-c", &put])?;
    let id = ns.instance()?["id"].as_str().context("id")?.to_owned();
    let ours = Figures::read(ns, "host")?;
    let theirs = theirs(&key, &id);
    std::fs::remove_dir_all(&folder)?;
    ours.beside_a("SSH over the vendor's session-manager-plugin", &theirs?, table);
    Ok(())
}

fn theirs(key: &Path, id: &str) -> Result<Figures> {
    let ssh = |command: &str| {
        let mut ssh = Command::new(cache().join("python/bin/python3"));
        ssh.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/e2e/interop/ssm_ssh.py"))
            .args([id, CLOUD])
            .arg(cache().join("bin/ssm-plugin/session-manager-plugin"))
            .arg(key)
            .arg(command)
            .envs([("AWS_ACCESS_KEY_ID", "test"), ("AWS_SECRET_ACCESS_KEY", "test")])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        ssh.spawn()
    };
    let millis = |start: Instant| start.elapsed().as_secs_f64() * 1000.0;
    let (mut execs, mut opened) = (Vec::new(), 0.0);
    for _ in 0..3 {
        let start = Instant::now();
        ensure!(ssh("true")?.wait()?.success(), "ssh over the plugin failed");
        execs.push(millis(start));
        opened = execs.iter().copied().fold(f64::INFINITY, f64::min);
    }
    let noise: Vec<u8> = (0..MIB << 18)
        .flat_map(|n: usize| n.wrapping_mul(2_654_435_761).to_le_bytes()[..4].to_vec())
        .collect();
    let start = Instant::now();
    let mut sending = ssh("wc -c")?;
    sending.stdin.take().context("stdin")?.write_all(&noise)?;
    let output = sending.wait_with_output()?;
    ensure!(text(&output.stdout).trim() == (MIB << 20).to_string(), "not all bytes arrived");
    // Without the time to open it, which is another figure.
    let up = count(MIB) / (millis(start) - opened).max(1.0) * 1000.0;
    let start = Instant::now();
    let output = ssh(&format!("head -c {} /dev/zero", MIB << 20))?.wait_with_output()?;
    ensure!(output.stdout.len() == MIB << 20, "not all bytes came");
    let down = count(MIB) / (millis(start) - opened).max(1.0) * 1000.0;
    let mut echo = ssh("cat")?;
    let (mut input, mut output) =
        (echo.stdin.take().context("stdin")?, echo.stdout.take().context("stdout")?);
    let mut round_trips = Vec::new();
    for _ in 0..=ROUND_TRIPS {
        let start = Instant::now();
        input.write_all(b"x")?;
        output.read_exact(&mut [0])?;
        round_trips.push(millis(start));
    }
    drop(input);
    echo.wait()?;
    Ok(Figures { up, down, round_trips: round_trips.split_off(1), execs })
}
