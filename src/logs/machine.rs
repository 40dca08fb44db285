//! The kept log files of one pod, as its machine hands them out (`guest/scripts/serve-logs.sh`).
//!
//! What a machine says is bounded and checked: it runs other people's containers.

use std::io;
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufStream};
use tokio::time::timeout;

use super::names;
use super::position::{LogFile, Serial};
use crate::tunnel::ByteStream;

/// For an answer, beside what was asked to be waited.
const DEADLINE: Duration = Duration::from_secs(60);
/// Bytes of a line, at most.
const MAX_LINE: usize = 1_024;
/// Files of a listing, at most: 16 for each container are kept.
const MAX_FILES: usize = 4_096;

/// A conversation with one machine.
pub struct Session {
    stream: BufStream<ByteStream>,
}

/// A run of a container, and its kept files, oldest first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kept {
    pub container: String,
    pub restart: u32,
    pub files: Vec<LogFile>,
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Session").finish_non_exhaustive()
    }
}

impl Session {
    /// Over the standard input and output of the command.
    #[must_use]
    pub fn new(stream: ByteStream) -> Self {
        Self { stream: BufStream::new(stream) }
    }

    /// All runs that have files now.
    ///
    /// # Errors
    /// The conversation broke, or the machine says what it should not. The session is of no use then.
    pub async fn list(&mut self) -> io::Result<Vec<Kept>> {
        let answer = async {
            self.ask("list").await?;
            let mut found = Vec::new();
            loop {
                let line = self.line().await?;
                if line == "." {
                    return Ok(grouped(found));
                }
                if found.len() == MAX_FILES {
                    return Err(broken("too many files"));
                }
                found.push(parse(&line).ok_or_else(|| broken(&line))?);
            }
        };
        within(DEADLINE, answer).await
    }

    /// Waits until something may be new since the last list, but no longer than `patience`, nor than `enough`.
    ///
    /// # Errors
    /// As [`Session::list`].
    pub async fn wait(&mut self, patience: Duration, enough: impl Future<Output = ()>) -> io::Result<()> {
        let answer = async {
            self.ask(&format!("wait {}", patience.as_secs())).await?;
            let is_enough = tokio::select! {
                read = self.stream.fill_buf() => read.map(|_| false)?,
                () = enough => true,
            };
            if is_enough {
                self.ask("").await?;
            }
            self.end().await
        };
        within(patience + DEADLINE, answer).await
    }

    /// Bytes of a file, as many as were asked for, which must be there; `None` if the file is gone.
    ///
    /// # Errors
    /// As [`Session::list`].
    pub async fn read(
        &mut self,
        run: (&str, u32),
        file: Serial,
        offset: u64,
        bytes: usize,
    ) -> io::Result<Option<Bytes>> {
        let answer = async {
            self.ask(&format!("read {} {offset} {bytes}", name(run, file))).await?;
            if self.line().await? == "gone" {
                return Ok(None);
            }
            let mut chunk = vec![0; bytes];
            self.stream.read_exact(&mut chunk).await?;
            self.end().await?;
            Ok(Some(chunk.into()))
        };
        within(DEADLINE, answer).await
    }

    /// Lets go of a file.
    ///
    /// # Errors
    /// As [`Session::list`].
    pub async fn drop(&mut self, run: (&str, u32), file: Serial) -> io::Result<()> {
        let answer = async {
            self.ask(&format!("drop {}", name(run, file))).await?;
            self.end().await
        };
        within(DEADLINE, answer).await
    }

    async fn ask(&mut self, question: &str) -> io::Result<()> {
        self.stream.write_all(question.as_bytes()).await?;
        self.stream.write_all(b"\n").await?;
        self.stream.flush().await
    }

    async fn end(&mut self) -> io::Result<()> {
        let line = self.line().await?;
        if line == "." { Ok(()) } else { Err(broken(&line)) }
    }

    async fn line(&mut self) -> io::Result<String> {
        let mut line = Vec::new();
        let read = (&mut self.stream).take(MAX_LINE as u64).read_until(b'\n', &mut line).await?;
        if read == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let text = line.strip_suffix(b"\n").ok_or_else(|| broken("a line that is too long"))?;
        String::from_utf8(text.to_vec()).map_err(|_| broken("a line that is no text"))
    }
}

async fn within<T>(deadline: Duration, answer: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    timeout(deadline, answer).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}

fn broken(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("the machine answers `{what}` about its logs"))
}

fn name((container, restart): (&str, u32), file: Serial) -> String {
    format!("{container}/{restart}.log.{file:08}")
}

/// `12 main/0.log.00000003`
fn parse(line: &str) -> Option<(String, u32, LogFile)> {
    let (size, path) = line.split_once(' ')?;
    let (container, file) = path.split_once('/')?;
    let (restart, serial) = file.split_once(".log.")?;
    let file = LogFile { serial: serial.parse().ok()?, size: size.parse().ok()? };
    Some((container.to_owned(), restart.parse().ok()?, file)).filter(|_| names::is_container(container))
}

fn grouped(mut found: Vec<(String, u32, LogFile)>) -> Vec<Kept> {
    found.sort_by(|a, b| (&a.0, a.1, a.2.serial).cmp(&(&b.0, b.1, b.2.serial)));
    let mut runs: Vec<Kept> = Vec::new();
    for (container, restart, file) in found {
        match runs.last_mut() {
            Some(run) if run.container == container && run.restart == restart => run.files.push(file),
            Some(_) | None => runs.push(Kept { container, restart, files: vec![file] }),
        }
    }
    runs
}

#[cfg(test)]
mod tests {
    use tokio::io::duplex;

    use super::*;

    /// A machine that answers every question with the same bytes.
    fn machine(answer: &'static [u8]) -> Session {
        let (near, mut far) = duplex(1 << 16);
        drop(tokio::spawn(async move {
            far.write_all(answer).await?;
            io::copy_discarding(&mut far).await
        }));
        Session::new(Box::new(near))
    }

    mod io {
        use tokio::io::{AsyncRead, AsyncReadExt};

        pub(super) async fn copy_discarding(from: &mut (impl AsyncRead + Unpin)) -> std::io::Result<()> {
            let mut bytes = [0; 64];
            while from.read(&mut bytes).await? > 0 {}
            Ok(())
        }
    }

    #[tokio::test]
    async fn files_are_told_by_run_and_oldest_first() {
        let mut session = machine(
            b"5 main/10.log.00000000\n7 main/2.log.00000001\n9 main/2.log.00000000\n1 side/0.log.00000000\n.\n",
        );
        let runs = session.list().await.unwrap();
        let shown: Vec<_> = runs
            .iter()
            .map(|run| {
                let files = run.files.iter().map(|file| (file.serial, file.size)).collect::<Vec<_>>();
                format!("{}/{} {files:?}", run.container, run.restart)
            })
            .collect();
        assert_eq!(shown, ["main/2 [(0, 9), (1, 7)]", "main/10 [(0, 5)]", "side/0 [(0, 1)]"]);
    }

    #[tokio::test]
    async fn a_chunk_is_what_was_asked_for_or_nothing() {
        let mut session = machine(b"3\none.\ngone\n");
        assert_eq!(session.read(("main", 0), 0, 0, 3).await.unwrap().unwrap(), "one");
        assert_eq!(session.read(("main", 0), 0, 0, 3).await.unwrap(), None);
    }

    #[tokio::test]
    async fn what_a_machine_should_not_say_ends_the_session() {
        for answer in [
            &b"12 ../../etc/0.log.00000000\n.\n"[..],
            b"12 main/0.log.x\n.\n",
            b"-1 main/0.log.00000000\n.\n",
            b"x\n.\n",
            b"\xff\n.\n",
            &[b'1'; 2_000],
        ] {
            assert!(machine(answer).list().await.is_err(), "{}", String::from_utf8_lossy(answer));
        }
        assert!(machine(b"3\none, and more\n").read(("main", 0), 0, 0, 3).await.is_err());
    }
}
