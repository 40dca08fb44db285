//! Header blocks: names and values, compressed with one zlib stream for each direction of a connection.
//!
//! The stream goes on from block to block, so a block that cannot be read ends the connection.

use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress, Status};

/// Bytes of an inflated block, at most. What kubectl and the API server send has less than 100; a compressed one of this
/// size could inflate to a thousand times as much.
pub const BLOCK_MAX: usize = 16 * 1024;
/// Headers of a block, at most.
const COUNT_MAX: usize = 64;

/// Names (in lower case, as the protocol has them) and values, in the order of the wire.
pub type Headers = Vec<(String, String)>;

/// The value of the first header of that name.
#[must_use]
pub fn value<'a>(headers: &'a Headers, name: &str) -> Option<&'a str> {
    headers.iter().find(|(it, _)| it == name).map(|(_, value)| value.as_str())
}

/// Why a block cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BlockError {
    #[error("not a zlib stream that can be read")]
    Zlib,
    #[error("more than {BLOCK_MAX} bytes or {COUNT_MAX} headers")]
    TooLarge,
    #[error("its lengths do not add up")]
    Malformed,
}

/// Reads the blocks of one direction.
#[derive(Debug)]
pub struct Inflater {
    stream: Decompress,
    begun: bool,
}

impl Default for Inflater {
    fn default() -> Self {
        // Raw: the two bytes of zlib's header are read here, since what follows them depends on the dictionary.
        Self { stream: Decompress::new(false), begun: false }
    }
}

impl Inflater {
    /// The headers of the next block.
    ///
    /// # Errors
    /// When it cannot be read; nor can any that follows.
    pub fn read(&mut self, block: &[u8]) -> Result<Headers, BlockError> {
        let block = if self.begun { block } else { self.begin(block)? };
        parse(&self.inflate(block)?)
    }

    /// Reads the head of the stream (RFC 1950, section 2.2): which compression, and whether with the dictionary.
    fn begin<'a>(&mut self, block: &'a [u8]) -> Result<&'a [u8], BlockError> {
        let [method, flags, rest @ ..] = block else { return Err(BlockError::Zlib) };
        if method & 0xf != 8 || u16::from_be_bytes([*method, *flags]) % 31 != 0 {
            return Err(BlockError::Zlib);
        }
        self.begun = true;
        if flags & WITH_DICTIONARY == 0 {
            return Ok(rest);
        }
        let rest = rest.strip_prefix(&DICTIONARY_ID).ok_or(BlockError::Zlib)?;
        // A preset dictionary is what is in the window when the stream begins: the same as a stored block
        // (RFC 1951, section 3.2.4) whose output is thrown away. So it works with every implementation of zlib.
        let dictionary = dictionary();
        let length = u16::try_from(dictionary.len()).map_err(|_| BlockError::Zlib)?;
        let mut stored = vec![0];
        stored.extend(length.to_le_bytes());
        stored.extend((!length).to_le_bytes());
        stored.extend(dictionary);
        self.inflate(&stored)?;
        Ok(rest)
    }

    fn inflate(&mut self, mut block: &[u8]) -> Result<Vec<u8>, BlockError> {
        let mut inflated = vec![0; BLOCK_MAX + 1];
        let mut filled = 0;
        loop {
            let (taken, made) = (self.stream.total_in(), self.stream.total_out());
            let room = inflated.get_mut(filled..).unwrap_or_default();
            let status =
                self.stream.decompress(block, room, FlushDecompress::Sync).map_err(|_| BlockError::Zlib)?;
            let taken = usize::try_from(self.stream.total_in() - taken).map_err(|_| BlockError::Zlib)?;
            let made = usize::try_from(self.stream.total_out() - made).map_err(|_| BlockError::Zlib)?;
            block = block.get(taken..).ok_or(BlockError::Zlib)?;
            filled += made;
            match status {
                _ if filled > BLOCK_MAX => return Err(BlockError::TooLarge),
                // The stream of a connection has no end.
                Status::StreamEnd => return Err(BlockError::Zlib),
                Status::Ok | Status::BufError if taken == 0 && made == 0 => break,
                Status::Ok | Status::BufError => {}
            }
        }
        if !block.is_empty() {
            return Err(BlockError::Zlib);
        }
        inflated.truncate(filled);
        Ok(inflated)
    }
}

/// A count, and for each header the length of its name, the name, the length of its value, and the value.
fn parse(mut block: &[u8]) -> Result<Headers, BlockError> {
    let count = number(&mut block)?;
    if count > COUNT_MAX {
        return Err(BlockError::TooLarge);
    }
    let mut headers = Vec::with_capacity(count);
    for _ in 0..count {
        let name = text(&mut block)?;
        headers.push((name, text(&mut block)?));
    }
    if block.is_empty() { Ok(headers) } else { Err(BlockError::Malformed) }
}

fn number(block: &mut &[u8]) -> Result<usize, BlockError> {
    let (number, rest) = block.split_first_chunk().ok_or(BlockError::Malformed)?;
    *block = rest;
    usize::try_from(u32::from_be_bytes(*number)).map_err(|_| BlockError::Malformed)
}

/// What is not UTF-8 is no name or value that is known here, and may be mangled.
fn text(block: &mut &[u8]) -> Result<String, BlockError> {
    let length = number(block)?;
    let (text, rest) = block.split_at_checked(length).ok_or(BlockError::Malformed)?;
    *block = rest;
    Ok(String::from_utf8_lossy(text).into_owned())
}

/// Writes the blocks of one direction.
#[derive(Debug)]
pub struct Deflater {
    stream: Compress,
}

impl Default for Deflater {
    fn default() -> Self {
        // Without the dictionary, which no peer asks for and which saves nothing: all that is ever written is empty.
        Self { stream: Compress::new(Compression::fast(), true) }
    }
}

impl Deflater {
    /// The next block, of no headers. Its last bytes are `00 00 ff ff`, a sync flush: with any other, Go's reader waits
    /// for more, or misses some.
    pub fn write_empty(&mut self) -> Vec<u8> {
        let mut input = &0_u32.to_be_bytes()[..];
        let mut block = Vec::with_capacity(64);
        loop {
            let taken = self.stream.total_in();
            // Errors are those of a stream that was ended, and this one is never.
            let status = self.stream.compress_vec(input, &mut block, FlushCompress::Sync);
            let taken = usize::try_from(self.stream.total_in() - taken).unwrap_or(usize::MAX);
            input = input.get(taken..).unwrap_or_default();
            if status.is_err() || (input.is_empty() && block.len() < block.capacity()) {
                return block;
            }
            block.reserve(64);
        }
    }
}

/// FDICT, in the second byte of a zlib stream.
const WITH_DICTIONARY: u8 = 0x20;
/// Adler-32 of the dictionary.
const DICTIONARY_ID: [u8; 4] = 0xe3c6_a7c2_u32.to_be_bytes();

/// Words of the dictionary that are each led by their length, as names and values of a block are
/// (SPDY protocol, draft 3.1, section 2.6.10.1).
const WORDS: &str = "options head post put delete trace accept accept-charset accept-encoding accept-language \
    accept-ranges age allow authorization cache-control connection content-base content-encoding content-language \
    content-length content-location content-md5 content-range content-type date etag expect expires from host if-match \
    if-modified-since if-none-match if-range if-unmodified-since last-modified location max-forwards pragma \
    proxy-authenticate proxy-authorization range referer retry-after server te trailer transfer-encoding upgrade \
    user-agent vary via warning www-authenticate method get status";

/// And what follows without lengths, but for the two that stand between.
const MORE: &str = "100101201202205206300302303304305306307402405406407408409410411412413414415416417502504505\
    203 Non-Authoritative Information204 No Content301 Moved Permanently400 Bad Request401 Unauthorized403 Forbidden\
    404 Not Found500 Internal Server Error501 Not Implemented503 Service Unavailable\
    Jan Feb Mar Apr May Jun Jul Aug Sept Oct Nov Dec 00:00:00 Mon, Tue, Wed, Thu, Fri, Sat, Sun, GMT\
    chunked,text/html,image/png,image/jpg,image/gif,application/xml,application/xhtml+xml,text/plain,text/javascript,\
    publicprivatemax-age=gzip,deflate,sdchcharset=utf-8charset=iso-8859-1,utf-,*,enq=0.";

/// What both sides have in their window when a stream begins.
fn dictionary() -> Vec<u8> {
    let words = WORDS.split(' ').chain(["200 OK", "version", "HTTP/1.1", "url", "public", "set-cookie"]);
    let words = words.chain(["keep-alive", "origin"]);
    let mut dictionary = Vec::new();
    for word in words {
        // Below 100, all of them.
        dictionary.extend([0, 0, 0, u8::try_from(word.len()).unwrap_or_default()]);
        dictionary.extend(word.as_bytes());
    }
    dictionary.extend(MORE.as_bytes());
    dictionary
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A stream that begins here, without the dictionary, and goes on with `write`.
    fn compressor() -> impl FnMut(&[u8]) -> Vec<u8> {
        let mut stream = Compress::new(Compression::best(), true);
        move |plain| {
            let mut block = Vec::with_capacity(plain.len() + 1024);
            stream.compress_vec(plain, &mut block, FlushCompress::Sync).unwrap();
            assert!(block.len() < block.capacity());
            block
        }
    }

    fn plain(headers: &[(&str, &str)]) -> Vec<u8> {
        let number = |n: usize| u32::try_from(n).unwrap().to_be_bytes();
        let mut block = number(headers.len()).to_vec();
        for text in headers.iter().flat_map(|(name, value)| [name, value]) {
            block.extend(number(text.len()));
            block.extend(text.as_bytes());
        }
        block
    }

    #[test]
    fn the_dictionary_is_the_protocols() {
        let dictionary = dictionary();
        // Adler-32 (RFC 1950, section 8.2).
        let (a, b) = dictionary.iter().fold((1_u32, 0_u32), |(a, b), byte| {
            let a = (a + u32::from(*byte)) % 65521;
            (a, (b + a) % 65521)
        });
        assert_eq!((dictionary.len(), (b << 16 | a).to_be_bytes()), (1423, DICTIONARY_ID));
    }

    #[test]
    fn blocks_follow_each_other_in_one_stream() {
        let (mut write, mut inflater) = (compressor(), Inflater::default());
        let more = "x".repeat(BLOCK_MAX - 200);
        for headers in [
            &[("streamtype", "error")][..],
            &[],
            &[("streamtype", "data"), ("port", "80"), ("requestid", "7")],
            &[("a", ""), ("a", &more)],
        ] {
            let read = inflater.read(&write(&plain(headers))).unwrap();
            let expected: Headers = headers.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect();
            assert_eq!(read, expected);
            assert_eq!(value(&read, "streamtype"), value(&expected, "streamtype"));
        }
    }

    #[test]
    fn empty_blocks_are_what_a_reader_of_blocks_expects() {
        let (mut deflater, mut inflater) = (Deflater::default(), Inflater::default());
        for _ in 0..1000 {
            let block = deflater.write_empty();
            assert!(block.ends_with(&[0, 0, 0xff, 0xff]), "{block:?}");
            assert_eq!(inflater.read(&block), Ok(Headers::new()));
        }
    }

    #[test]
    fn what_is_no_block_is_refused() {
        let bomb = vec![0; 8 << 20];
        let many = plain(&vec![("a", "b"); COUNT_MAX + 1]);
        for (plain, error) in [
            (&bomb[..], BlockError::TooLarge),
            (&many, BlockError::TooLarge),
            (&[0, 0, 0, 1], BlockError::Malformed),
            (&[0, 0, 0, 0, 0], BlockError::Malformed),
            (&[0, 0, 0, 1, 0xff, 0xff, 0xff, 0xff, b'a'], BlockError::Malformed),
        ] {
            // 8 MiB are 8 KiB compressed.
            let mut stream = Compress::new(Compression::best(), true);
            let mut block = Vec::with_capacity(1 << 20);
            stream.compress_vec(plain, &mut block, FlushCompress::Sync).unwrap();
            assert_eq!(Inflater::default().read(&block), Err(error), "{} bytes", plain.len());
        }
        let mut ended = Vec::with_capacity(1024);
        let mut stream = Compress::new(Compression::best(), true);
        stream.compress_vec(&[0; 4], &mut ended, FlushCompress::Finish).unwrap();
        for bytes in [&[][..], &[0x78], &[0x78, 0x9d], &[0x78, 0xf9, 1, 2, 3, 4, 5], b"nonsense", &ended] {
            assert_eq!(Inflater::default().read(bytes), Err(BlockError::Zlib), "{bytes:?}");
        }
    }
}
