//! Server-Sent Events from bytes, as they come. Pure: it does no I/O and reads no clock.
//!
//! <https://html.spec.whatwg.org/multipage/server-sent-events.html#parsing-an-event-stream>. What is longer than a
//! line or an event may be is cut, so that no stream takes more memory than that.

/// Of one line; a line of a log is far shorter.
const LONGEST: usize = 256 << 10;

/// One event.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Event {
    /// The last id that the stream told; empty until it tells one.
    pub(super) id: String,
    pub(super) data: String,
}

/// Takes bytes in pieces of any size.
#[derive(Debug, Default)]
pub(super) struct Parser {
    line: Vec<u8>,
    /// The last byte was a carriage return, and a line feed after it belongs to it.
    is_after_return: bool,
    is_begun: bool,
    id: String,
    data: String,
    has_data: bool,
}

impl Parser {
    /// The events that these bytes complete.
    pub(super) fn push(&mut self, bytes: &[u8]) -> Vec<Event> {
        let mut events = Vec::new();
        for &byte in bytes {
            let is_second_half = std::mem::take(&mut self.is_after_return) && byte == b'\n';
            match byte {
                b'\n' if is_second_half => {}
                b'\n' => events.extend(self.end_line()),
                b'\r' => {
                    self.is_after_return = true;
                    events.extend(self.end_line());
                }
                _ if self.line.len() < LONGEST => self.line.push(byte),
                _ => {}
            }
        }
        events
    }

    fn end_line(&mut self) -> Option<Event> {
        let line = std::mem::take(&mut self.line);
        let mut line = String::from_utf8_lossy(&line).into_owned();
        if !std::mem::replace(&mut self.is_begun, true) {
            line = line.trim_start_matches('\u{feff}').to_owned();
        }
        if line.is_empty() {
            let data = std::mem::take(&mut self.data);
            return std::mem::take(&mut self.has_data).then(|| Event { id: self.id.clone(), data });
        }
        let (field, value) = line.split_once(':').unwrap_or((line.as_str(), ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "data" => {
                if std::mem::replace(&mut self.has_data, true) {
                    self.data.push('\n');
                }
                if self.data.len() + value.len() <= LONGEST {
                    self.data.push_str(value);
                }
            }
            // An id with a zero byte is none.
            "id" if !value.contains('\0') => value.clone_into(&mut self.id),
            // Comments, names of events, and times to reconnect after: there is one kind here, and our own times.
            _ => {}
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Vec<(String, String)> {
        Parser::default().push(text.as_bytes()).into_iter().map(|event| (event.id, event.data)).collect()
    }

    fn pairs(all: &[(&str, &str)]) -> Vec<(String, String)> {
        all.iter().map(|(id, data)| ((*id).to_owned(), (*data).to_owned())).collect()
    }

    #[test]
    fn an_event_ends_with_an_empty_line_and_keeps_the_last_id() {
        let text = "\u{feff}: hello\nid: 1\ndata: {\"a\":1}\n\ndata:no space\ndata:  two\n\nid\ndata\n\nid: 9\n\nevent: x\nretry: 5\n\n";
        assert_eq!(parse(text), pairs(&[("1", "{\"a\":1}"), ("1", "no space\n two"), ("", "")]));
        assert_eq!(parse("id: 1\ndata: unfinished\n"), []);
        assert_eq!(parse("id: a\0b\ndata: x\n\n"), pairs(&[("", "x")]));
    }

    #[test]
    fn every_kind_of_line_end_ends_a_line() {
        for end in ["\n", "\r\n", "\r"] {
            let text = ["id: 1", "data: a", "", "data: b", ""].join(end) + end;
            assert_eq!(parse(&text), pairs(&[("1", "a"), ("1", "b")]), "{end:?}");
        }
    }

    #[test]
    fn a_line_without_end_takes_no_more_than_its_limit() {
        let mut parser = Parser::default();
        for _ in 0..100 {
            assert_eq!(parser.push(&[b'x'; 64 << 10]), []);
        }
        assert!(parser.line.len() <= LONGEST);
        for _ in 0..100 {
            parser.push(format!("\ndata: {}", "y".repeat(64 << 10)).as_bytes());
        }
        let events = parser.push(b"\n\n");
        assert!(events[0].data.len() <= LONGEST + 100, "{}", events[0].data.len());
    }

    proptest::proptest! {
        #[test]
        fn pieces_of_any_size_make_the_same_events(
            text in "(id: [0-9]\r?\n|data: ?[a-z]{0,5}\r?\n|\r\n|\n|: x\n|[a-z:]{0,3}\r)*",
            sizes in proptest::collection::vec(1..7_usize, 1..20),
        ) {
            let whole = Parser::default().push(text.as_bytes());
            let (mut parser, mut pieces, mut rest) = (Parser::default(), Vec::new(), text.as_bytes());
            let mut sizes = sizes.into_iter().cycle();
            while !rest.is_empty() {
                let (piece, after) = rest.split_at(sizes.next().unwrap().min(rest.len()));
                pieces.extend(parser.push(piece));
                rest = after;
            }
            proptest::prop_assert_eq!(pieces, whole);
        }

        #[test]
        fn no_bytes_make_it_panic(bytes: Vec<u8>) {
            Parser::default().push(&bytes);
        }
    }
}
