//! Cuts the bytes of a log file into lines, whatever chunks they come in, and says where in the file each one is.
//!
//! Pure. Holds at most one piece of a line: a longer line is handed out in pieces, always the same ones for the same
//! line, so that sequence numbers given to pieces are the same when a file is read again.

/// Bytes of a piece, at most.
///
/// A piece becomes one event. In base64 it grows by a third, to 245,760 bytes; with at most 200 bytes before it that
/// stays below the 262,118 bytes of an event of 256 KiB less its overhead.
pub const MAX_PIECE: usize = 180 * 1024;

/// A line, or a piece of a long one, borrowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Piece<'a> {
    /// Without the newline.
    pub bytes: &'a [u8],
    /// Where in the file its line begins.
    pub line: u64,
    /// Where in the file it begins.
    pub begin: u64,
    /// Where in the file what follows begins: after the newline, if there is one.
    pub end: u64,
    pub ends: Ends,
}

impl Piece<'_> {
    /// Whether the line begins here.
    #[must_use]
    pub fn is_first(&self) -> bool {
        self.line == self.begin
    }
}

/// What ends a piece.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ends {
    /// The newline of its line.
    Newline,
    /// Its length: the line goes on in the next piece.
    Length,
    /// The file, in the middle of a line.
    File,
}

/// Reads one file, from the beginning of a line on.
#[derive(Debug)]
pub struct Reader {
    /// Bytes of the piece under way; never more than `longest`.
    held: Vec<u8>,
    /// Where the line under way begins, and the piece.
    line: u64,
    begin: u64,
    longest: usize,
}

impl Reader {
    /// A reader whose first byte is that at `offset` of the file, where a line begins.
    #[must_use]
    pub fn at(offset: u64) -> Self {
        Self::with_longest(offset, MAX_PIECE)
    }

    /// As [`Reader::at`], with shorter pieces.
    pub(crate) fn with_longest(offset: u64, longest: usize) -> Self {
        Self { held: Vec::new(), line: offset, begin: offset, longest: longest.clamp(8, MAX_PIECE) }
    }

    /// Where in the file the next byte to feed is.
    #[must_use]
    pub fn fed(&self) -> u64 {
        self.begin + self.held.len() as u64
    }

    /// Where in the file the line under way begins: from there another reader can go on.
    #[must_use]
    pub fn line(&self) -> u64 {
        self.line
    }

    /// Takes the next bytes of the file and hands out every piece that they complete.
    pub fn feed(&mut self, mut chunk: &[u8], mut each: impl FnMut(Piece<'_>)) {
        while !chunk.is_empty() {
            if self.held.is_empty() {
                let Some(cut) = cut(chunk, self.longest) else { return self.held.extend_from_slice(chunk) };
                each(self.piece(&chunk[..cut.length], cut));
                chunk = &chunk[cut.used..];
            } else {
                // No more than decides about this piece.
                let room = (self.longest + 1 - self.held.len()).min(chunk.len());
                let wanted = newline(&chunk[..room]).map_or(room, |at| at + 1);
                let (more, rest) = chunk.split_at(wanted);
                self.held.extend_from_slice(more);
                chunk = rest;
                let is_decided = self.held.ends_with(b"\n") || self.held.len() > self.longest;
                if let Some(cut) = is_decided.then(|| cut(&self.held, self.longest)).flatten() {
                    let mut held = std::mem::take(&mut self.held);
                    each(self.piece(&held[..cut.length], cut));
                    held.drain(..cut.used);
                    self.held = held;
                }
            }
        }
    }

    /// The file ends: what it has of a last line without a newline.
    pub fn finish(&mut self, each: impl FnOnce(Piece<'_>)) {
        let held = std::mem::take(&mut self.held);
        if !held.is_empty() {
            each(self.piece(&held, Cut { length: held.len(), used: held.len(), ends: Ends::File }));
        }
    }

    /// The piece that a cut gives; moves on behind it.
    fn piece<'a>(&mut self, bytes: &'a [u8], cut: Cut) -> Piece<'a> {
        let end = self.begin + cut.used as u64;
        let piece = Piece { bytes, line: self.line, begin: self.begin, end, ends: cut.ends };
        self.begin = end;
        if cut.ends != Ends::Length {
            self.line = end;
        }
        piece
    }
}

/// Where a piece ends.
#[derive(Clone, Copy, Debug)]
struct Cut {
    /// Bytes of the piece.
    length: usize,
    /// The same with the newline.
    used: usize,
    ends: Ends,
}

/// The first piece in `bytes`, or `None` while more of them must decide. Looks at `longest + 1` bytes and no further.
fn cut(bytes: &[u8], longest: usize) -> Option<Cut> {
    let seen = &bytes[..bytes.len().min(longest + 1)];
    if let Some(length) = newline(seen) {
        return Some(Cut { length, used: length + 1, ends: Ends::Newline });
    }
    if seen.len() <= longest {
        return None;
    }
    // Between two characters, so that text stays text; a character has at most four bytes.
    let is_within = |at: &usize| seen[*at] & 0xc0 == 0x80;
    let length = (longest - 3..=longest).rev().find(|at| !is_within(at)).unwrap_or(longest);
    Some(Cut { length, used: length, ends: Ends::Length })
}

fn newline(bytes: &[u8]) -> Option<usize> {
    bytes.iter().position(|byte| *byte == b'\n')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A piece, owned.
    type Owned = (Vec<u8>, u64, u64, u64, Ends);

    fn own(piece: &Piece<'_>) -> Owned {
        (piece.bytes.to_vec(), piece.line, piece.begin, piece.end, piece.ends)
    }

    fn read<'a>(reader: &mut Reader, chunks: impl IntoIterator<Item = &'a [u8]>) -> Vec<Owned> {
        let mut pieces = Vec::new();
        for chunk in chunks {
            reader.feed(chunk, |piece| pieces.push(own(&piece)));
            assert!(reader.held.len() <= reader.longest);
        }
        reader.finish(|piece| pieces.push(own(&piece)));
        pieces
    }

    #[test]
    fn lines_come_with_their_place_in_the_file() {
        let mut reader = Reader::at(100);
        let mut pieces = Vec::new();
        reader.feed(b"one\n\ntw", |piece| pieces.push(own(&piece)));
        assert_eq!(
            pieces,
            [(b"one".to_vec(), 100, 100, 104, Ends::Newline), (Vec::new(), 104, 104, 105, Ends::Newline)]
        );
        assert_eq!((reader.line(), reader.fed()), (105, 107));
        reader.feed(b"o", |piece| panic!("{piece:?} is not whole"));
        pieces.clear();
        reader.finish(|piece| pieces.push(own(&piece)));
        assert_eq!(pieces, [(b"two".to_vec(), 105, 105, 108, Ends::File)]);
        reader.finish(|piece| panic!("{piece:?} was handed out"));
        assert_eq!((reader.line(), reader.fed()), (108, 108));
    }

    #[test]
    fn a_long_line_comes_in_pieces_between_characters() {
        let file = "12345678\n1234567ä9\n123456789a12345678b\n".as_bytes();
        let pieces = read(&mut Reader::with_longest(0, 8), [file]);
        let seen: Vec<_> = pieces.iter().map(|(bytes, line, .., ends)| (&bytes[..], *line, *ends)).collect();
        assert_eq!(
            seen,
            [
                (&b"12345678"[..], 0, Ends::Newline),
                (b"1234567", 9, Ends::Length),
                ("ä9".as_bytes(), 9, Ends::Newline),
                (b"12345678", 20, Ends::Length),
                (b"9a123456", 20, Ends::Length),
                (b"78b", 20, Ends::Newline),
            ]
        );
    }

    #[test]
    fn a_line_that_never_ends_takes_no_more_memory_than_a_piece() {
        let mut reader = Reader::at(0);
        let (mut pieces, mut bytes) = (0, 0);
        for _ in 0..64 {
            reader.feed(&[b'x'; 65_536], |piece| {
                assert_eq!((piece.bytes.len(), piece.ends, piece.line), (MAX_PIECE, Ends::Length, 0));
                (pieces, bytes) = (pieces + 1, bytes + piece.bytes.len());
            });
            assert!(reader.held.capacity() <= 2 * MAX_PIECE);
        }
        assert_eq!((pieces, bytes), (22, 22 * MAX_PIECE));
        assert_eq!((reader.line(), reader.fed()), (0, 64 * 65_536));
    }

    /// Bytes with many newlines, long lines, and characters of several bytes.
    fn file() -> impl Strategy<Value = Vec<u8>> {
        let bit = prop_oneof![
            3 => Just(b"\n".to_vec()),
            3 => "[a-zäöü€𝄞]{0,12}".prop_map(String::into_bytes),
            1 => prop::collection::vec(0x70_u8..=0xff, 0..12),
        ];
        prop::collection::vec(bit, 0..40).prop_map(|bits| bits.concat())
    }

    proptest! {
        #[test]
        fn any_chunks_of_any_file_give_the_same_pieces_and_all_its_bytes(
            file in file(), cuts in prop::collection::vec(1_usize..20, 1..40), longest in 8_usize..24,
        ) {
            let whole = read(&mut Reader::with_longest(0, longest), [&file[..]]);
            let (mut chunks, mut rest) = (Vec::new(), &file[..]);
            for cut in cuts.iter().cycle() {
                if rest.is_empty() {
                    break;
                }
                let (chunk, more) = rest.split_at((*cut).min(rest.len()));
                chunks.push(chunk);
                rest = more;
            }
            prop_assert_eq!(&read(&mut Reader::with_longest(0, longest), chunks), &whole);

            let mut again = Vec::new();
            for (bytes, line, begin, end, ends) in &whole {
                prop_assert_eq!(*begin, again.len() as u64);
                prop_assert!(bytes.len() <= longest && line <= begin);
                again.extend_from_slice(bytes);
                if *ends == Ends::Newline {
                    again.push(b'\n');
                }
                prop_assert_eq!(*end, again.len() as u64);
            }
            prop_assert_eq!(again, file);
        }

        #[test]
        fn a_reader_that_goes_on_at_a_line_reads_what_the_first_would_have(file in file(), longest in 8_usize..24, which: prop::sample::Index) {
            let whole = read(&mut Reader::with_longest(0, longest), [&file[..]]);
            prop_assume!(!whole.is_empty());
            let line = whole[which.index(whole.len())].1;
            let rest = &file[usize::try_from(line).unwrap()..];
            let again = read(&mut Reader::with_longest(line, longest), [rest]);
            let expected: Vec<_> = whole.into_iter().filter(|piece| piece.1 >= line).collect();
            prop_assert_eq!(again, expected);
        }
    }
}
