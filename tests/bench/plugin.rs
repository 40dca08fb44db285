//! The tunnel beside the vendor's own client of it, through the same local cloud: the same SSH client and server at both
//! ends, once over ORCA's transport and once over session-manager-plugin.

use std::io::{Read, Write};
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use orca::config::Config;
use orca::tunnel::ssm::{SsmOptions, SsmTransport};
use orca::tunnel::{Target, Transport};
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tokio::task::JoinSet;

use crate::gauge::count;
use crate::table::Table;
use crate::tunnel::Figures;
use crate::world::clients::{Visitor, config, sdk};
use crate::world::{Namespace, World, text};

const MIB: usize = 16;
const ROUND_TRIPS: usize = 100;
const ROUNDS: usize = 3;
/// Of the machine's own sshd.
const SSH_PORT: u16 = 22;

pub(crate) fn measure(table: &mut Table) -> Result<()> {
    let world = World::start_with(&[])?;
    let result = world.in_namespace(|ns| beside(ns, table));
    world.stop().and(result)
}

fn beside(ns: &Namespace<'_>, table: &mut Table) -> Result<()> {
    let visitor = Visitor::new(ns)?;
    let config = config(&ns.world.log("orca.yaml")?)?;
    let runtime = Runtime::new()?;
    let (port, _open) = runtime.block_on(listen(&config, &visitor.instance_id))?;
    let (mut ours, mut theirs) = (Figures::default(), Figures::default());
    for _ in 0..ROUNDS {
        ours.best(read(|command| over_port(&visitor, port, command))?);
        theirs.best(read(|command| visitor.over_plugin(command))?);
    }
    ours.beside("SSH over ORCA's tunnel", "SSH over the vendor's session-manager-plugin", &theirs, table);
    Figures::of_exec(ns, "host")?.beside(
        "exec",
        "SSH over the vendor's session-manager-plugin",
        &theirs,
        table,
    );
    Ok(())
}

/// A port here, each connection to which is a stream of ORCA's transport to the machine's sshd.
async fn listen(config: &Config, instance_id: &str) -> Result<(u16, JoinSet<()>)> {
    let transport = SsmTransport::new(&sdk(config).await, SsmOptions::default());
    let target = Target { instance_id: instance_id.to_owned(), private_ip: None, port: SSH_PORT };
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let port = listener.local_addr()?.port();
    let mut accepting = JoinSet::new();
    accepting.spawn(async move {
        while let Ok((mut here, _)) = listener.accept().await {
            let there = transport.open(&target).await;
            if let (Ok(()), Ok(mut there)) = (here.set_nodelay(true), there) {
                drop(tokio::io::copy_bidirectional(&mut here, &mut there).await);
            }
        }
    });
    Ok((port, accepting))
}

/// A command on the machine, by SSH to a port here that leads to the machine's.
fn over_port(visitor: &Visitor, port: u16, command: &str) -> Command {
    let mut ssh = Command::new("ssh");
    for option in
        ["StrictHostKeyChecking=no", "UserKnownHostsFile=/dev/null", "BatchMode=yes", "LogLevel=ERROR"]
    {
        ssh.args(["-o", option]);
    }
    ssh.arg("-i").arg(visitor.key()).args(["-p", &port.to_string(), "root@127.0.0.1", command]);
    ssh
}

fn read(ssh: impl Fn(&str) -> Command) -> Result<Figures> {
    let spawn = |command: &str| -> Result<Child> {
        Ok(ssh(command).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?)
    };
    let millis = |start: Instant| start.elapsed().as_secs_f64() * 1000.0;
    let mut execs = Vec::new();
    for _ in 0..ROUNDS {
        let start = Instant::now();
        ensure!(spawn("true")?.wait()?.success(), "ssh failed");
        execs.push(millis(start));
    }
    // Opening is another figure.
    let opened = execs.iter().copied().fold(f64::INFINITY, f64::min);
    let rate = |start: Instant| count(MIB) / (millis(start) - opened).max(1.0) * 1000.0;
    let start = Instant::now();
    let mut sending = spawn("wc -c")?;
    sending.stdin.take().context("stdin")?.write_all(&Figures::noise(MIB))?;
    let output = sending.wait_with_output()?;
    ensure!(text(&output.stdout).trim() == (MIB << 20).to_string(), "not all bytes arrived");
    let up = rate(start);
    let start = Instant::now();
    let output = spawn(&format!("head -c {} /dev/zero", MIB << 20))?.wait_with_output()?;
    ensure!(output.stdout.len() == MIB << 20, "not all bytes came");
    let down = rate(start);
    let mut echo = spawn("cat")?;
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
