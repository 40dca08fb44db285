//! What keeps container logs on the machine until they are archived, and hands them out.

use super::super::fill;
use super::ETC;

const KEEP: &str = include_str!("../scripts/keep-logs.sh");
const SERVE: &str = include_str!("../scripts/serve-logs.sh");

/// Files kept for each container, at most. With `containerLogMaxSize` (10 MiB) this bounds what an archive that cannot be
/// written to costs on the machine's disk.
const MOST: u32 = 16;

/// Where [`server`] lies.
pub(in crate::guest) fn server_path() -> String {
    format!("{ETC}/serve-logs")
}

/// Keeps a second name of each log file.
pub(in crate::guest) fn keeper() -> String {
    fill(KEEP, &[("most", &MOST.to_string())])
}

/// Answers questions about kept files.
pub(in crate::guest) fn server() -> String {
    SERVE.to_owned()
}

/// Runs [`keeper`] at `path`.
pub(in crate::guest) fn unit(path: &str) -> String {
    format!(
        "[Unit]\nDescription=Keeps container logs until ORCA has archived them\n\n\
         [Service]\nExecStart=/bin/bash {path}\nRestart=always\nRestartSec=1\nCPUWeight=20\n"
    )
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::{BufRead, BufReader, Read, Write};
    use std::path::{Path, PathBuf};
    use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
    use std::time::{Duration, Instant};

    use super::*;

    /// A machine's folders, and the keeper at work on them.
    struct World {
        dir: PathBuf,
        keeper: Child,
    }

    impl World {
        fn new() -> Self {
            let dir = std::env::temp_dir().join(format!("orca-logs-{}", uuid::Uuid::new_v4()));
            fs::create_dir_all(dir.join("pods/ns_pod_uid/main")).unwrap();
            let keeper = Self::keeper(&dir);
            Self { dir, keeper }
        }

        fn keeper(dir: &Path) -> Child {
            let script = super::keeper().replace("/run/orca", &dir.to_string_lossy());
            let mut keeper = Command::new("bash");
            keeper.args(["-c", &script, "keeper"]).arg(dir.join("pods")).arg(dir.join("kept"));
            keeper.stdin(Stdio::null()).spawn().unwrap()
        }

        fn file(&self, name: &str) -> PathBuf {
            self.dir.join("pods/ns_pod_uid/main").join(name)
        }

        fn kept(&self) -> Vec<String> {
            let all = fs::read_dir(self.dir.join("kept/ns_pod_uid/main")).into_iter().flatten();
            let mut names: Vec<_> =
                all.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
            names.sort();
            names
        }

        fn until(&self, what: impl Fn(&Self) -> bool) {
            let end = Instant::now() + Duration::from_secs(20);
            while !what(self) {
                assert!(Instant::now() < end, "kept: {:?}", self.kept());
                std::thread::sleep(Duration::from_millis(20));
            }
        }

        fn until_kept(&self, names: &[&str]) {
            self.until(|world| world.kept() == names);
        }

        fn ask(&self) -> Server {
            let script = server().replace("/run/orca", &self.dir.to_string_lossy());
            let mut server = Command::new("bash")
                .args(["-c", &script, "server", "ns_pod_uid"])
                .arg(self.dir.join("kept"))
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .spawn()
                .unwrap();
            let (asked, answers) = (server.stdin.take().unwrap(), server.stdout.take().unwrap());
            Server { process: server, asked: Some(asked), answers: BufReader::new(answers) }
        }
    }

    impl Drop for World {
        fn drop(&mut self) {
            self.keeper.kill().unwrap();
            self.keeper.wait().unwrap();
            // What the keeper had just begun may end after it.
            let end = Instant::now() + Duration::from_secs(20);
            while let Err(error) = fs::remove_dir_all(&self.dir) {
                assert!(Instant::now() < end, "{error}");
                std::thread::sleep(Duration::from_millis(20));
            }
        }
    }

    struct Server {
        process: Child,
        asked: Option<ChildStdin>,
        answers: BufReader<ChildStdout>,
    }

    impl Drop for Server {
        fn drop(&mut self) {
            self.process.kill().unwrap();
            self.process.wait().unwrap();
        }
    }

    impl Server {
        fn ask(&mut self, question: &str) {
            writeln!(self.asked.as_mut().unwrap(), "{question}").unwrap();
        }

        fn line(&mut self) -> String {
            let mut line = String::new();
            self.answers.read_line(&mut line).unwrap();
            line.trim_end().to_owned()
        }

        fn lines(&mut self, question: &str) -> Vec<String> {
            self.ask(question);
            let lines = std::iter::from_fn(|| Some(self.line()));
            lines.take_while(|line| line != ".").collect()
        }
    }

    #[test]
    fn a_file_stays_when_it_is_rotated_compressed_and_removed() {
        let world = World::new();
        fs::write(world.file("0.log"), "one\n").unwrap();
        world.until_kept(&["0.log.00000000"]);
        fs::rename(world.file("0.log"), world.file("0.log.20261121-120000")).unwrap();
        fs::write(world.file("0.log"), "two\n").unwrap();
        world.until_kept(&["0.log.00000000", "0.log.00000001"]);
        fs::remove_dir_all(world.dir.join("pods/ns_pod_uid")).unwrap();
        let mut server = world.ask();
        assert_eq!(server.lines("list"), ["4 main/0.log.00000000", "4 main/0.log.00000001"]);
        server.ask("read main/0.log.00000000 1 3");
        assert_eq!(server.line(), "3");
        let mut bytes = [0; 3];
        server.answers.read_exact(&mut bytes).unwrap();
        assert_eq!((&bytes, &*server.line()), (b"ne\n", "."));
        assert_eq!(server.lines("drop main/0.log.00000000"), [""; 0]);
        server.ask("read main/0.log.00000000 0 3");
        assert_eq!(server.line(), "gone");
        assert_eq!(server.lines("list"), ["4 main/0.log.00000001"]);
    }

    #[test]
    fn a_keeper_that_is_started_again_keeps_nothing_twice() {
        let mut world = World::new();
        fs::write(world.file("0.log"), "one\n").unwrap();
        world.until_kept(&["0.log.00000000"]);
        world.keeper.kill().unwrap();
        world.keeper.wait().unwrap();
        fs::rename(world.file("0.log"), world.file("0.log.1")).unwrap();
        fs::write(world.file("0.log"), "two\n").unwrap();
        fs::write(world.file("1.log"), "").unwrap();
        world.keeper = World::keeper(&world.dir);
        world.until_kept(&["0.log.00000000", "0.log.00000001", "1.log.00000000"]);
    }

    #[test]
    fn of_what_nobody_archives_the_oldest_goes() {
        let world = World::new();
        let most = usize::try_from(MOST).unwrap();
        for run in 0..20 {
            fs::write(world.file(&format!("{run}.log")), "x").unwrap();
            let kept = format!("{run}.log.00000000");
            world.until(|world| world.kept().contains(&kept) && world.kept().len() <= most);
        }
        let names = world.kept();
        assert_eq!(names.len(), most);
        assert!(
            !names.contains(&"3.log.00000000".to_owned()) && names.contains(&"4.log.00000000".to_owned())
        );
    }

    #[test]
    fn whoever_waits_learns_of_what_is_written_at_once() {
        let world = World::new();
        let mut server = world.ask();
        assert_eq!(server.lines("list"), [""; 0]);
        let begin = Instant::now();
        server.ask("wait 60");
        fs::write(world.file("0.log"), "one\n").unwrap();
        assert_eq!(server.line(), ".");
        assert_eq!(server.lines("list"), ["4 main/0.log.00000000"]);
        server.ask("wait 60");
        fs::OpenOptions::new().append(true).open(world.file("0.log")).unwrap().write_all(b"two\n").unwrap();
        assert_eq!(server.line(), ".");
        assert!(begin.elapsed() < Duration::from_secs(50));
    }

    #[test]
    fn an_empty_line_ends_a_wait_and_is_no_question() {
        let world = World::new();
        let mut server = world.ask();
        let begin = Instant::now();
        server.ask("wait 60\n");
        assert_eq!(server.line(), ".");
        assert_eq!(server.lines("\nlist"), [""; 0]);
        assert!(begin.elapsed() < Duration::from_secs(50));
    }

    #[test]
    fn the_server_ends_with_its_questions_and_leaves_nothing() {
        let world = World::new();
        let mut server = world.ask();
        assert_eq!(server.lines("wait 0"), [""; 0]);
        drop(server.asked.take());
        assert!(server.process.wait().unwrap().success());
        let left = fs::read_dir(&world.dir).unwrap().map(|entry| entry.unwrap().file_name());
        assert_eq!(left.filter(|name| name.to_string_lossy().starts_with("serve")).count(), 0);
    }
}
