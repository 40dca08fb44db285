//! A compressed tar archive (POSIX ustar, gzip) in memory: how files travel to a machine over one SSH channel.
//!
//! Large files are compressed once, each as a [`part`]; parts and an [`end`], one behind the other, are an archive.

use std::io::Write;

use flate2::Compression;
use flate2::write::GzEncoder;

use super::File;

const BLOCK: usize = 512;

/// The files as one archive, each under its own name (at most 100 bytes), owned by root. Equal files make equal archives.
pub(super) fn archive(files: &[File]) -> Vec<u8> {
    let mut out: Vec<u8> = files.iter().flat_map(entry).collect();
    out.resize(out.len() + 2 * BLOCK, 0);
    gzip(&out)
}

/// One file of an archive that is put together of parts.
#[must_use]
pub fn part(file: &File) -> Vec<u8> {
    gzip(&entry(file))
}

/// What stands behind the last part.
#[must_use]
pub fn end() -> Vec<u8> {
    gzip(&[0; 2 * BLOCK])
}

fn entry(file: &File) -> Vec<u8> {
    let mut out = Vec::with_capacity(file.content.len() + 2 * BLOCK);
    out.extend_from_slice(&header(file));
    out.extend_from_slice(&file.content);
    out.resize(out.len().next_multiple_of(BLOCK), 0);
    out
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(bytes).and_then(|()| encoder.finish()).expect("a Vec takes all")
}

/// IEEE 1003.1, "ustar Interchange Format".
fn header(file: &File) -> [u8; BLOCK] {
    let mut block = [0; BLOCK];
    let mut put =
        |offset: usize, text: &str| block[offset..offset + text.len()].copy_from_slice(text.as_bytes());
    debug_assert!(file.name.len() <= 100, "`{}` is too long for a name in an archive", file.name);
    put(0, &file.name);
    put(100, &format!("{:07o}", file.mode));
    put(108, "0000000");
    put(116, "0000000");
    put(124, &format!("{:011o}", file.content.len()));
    // A fixed time: equal files make equal archives.
    put(136, "00000000000");
    put(148, "        ");
    put(156, "0");
    put(257, "ustar\x0000");
    let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
    block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    block
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;
    use std::process::{Command, Stdio};

    use super::*;

    fn check(files: &[File], archive: &[u8]) {
        let dir = std::env::temp_dir().join(format!("orca-archive-{}", uuid::Uuid::new_v4()));
        std::fs::create_dir_all(&dir).unwrap();
        let mut tar =
            Command::new("tar").arg("-xzpf-").arg("-C").arg(&dir).stdin(Stdio::piped()).spawn().unwrap();
        tar.stdin.take().unwrap().write_all(archive).unwrap();
        assert!(tar.wait().unwrap().success());
        for file in files {
            let path = dir.join(&file.name);
            assert_eq!(std::fs::read(&path).unwrap(), file.content);
            assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, file.mode);
        }
        assert_eq!(std::fs::read_dir(&dir).unwrap().count(), files.len());
        std::fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn tar_unpacks_what_was_packed_in_one_or_in_parts() {
        let files = [
            File { name: "empty".to_owned(), mode: 0o600, content: Vec::new() },
            File { name: "block".to_owned(), mode: 0o755, content: vec![7; 512] },
            File {
                name: "large".to_owned(),
                mode: 0o644,
                content: (0..70_001u32).flat_map(u32::to_le_bytes).collect(),
            },
        ];
        check(&files, &archive(&files));
        let parts: Vec<u8> = files.iter().flat_map(part).chain(end()).collect();
        check(&files, &parts);
        check(&files[1..2], &[part(&files[1]), end()].concat());
    }

    #[test]
    fn an_archive_is_small() {
        let content = b"the same words again and again, ".repeat(4096);
        let file = File { name: "words".to_owned(), mode: 0o644, content };
        assert!(part(&file).len() < 2048, "{}", part(&file).len());
    }
}
