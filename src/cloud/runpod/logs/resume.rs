//! Where a log is to be resumed, and what comes twice when it is. Pure.
//!
//! A stream is resumed with the id of its last event, and the server may begin with that event again. Ids may be mere
//! times, which several lines share: then all lines of that time may come again, and those that came are recognised by
//! their order and contents.

use super::sse::Event;

/// So many lines of one id are remembered; more than that is not one moment's log.
const MOST: usize = 4096;

/// What was delivered last.
#[derive(Debug, Default)]
pub(super) struct Cursor {
    id: Option<String>,
    /// Every event of that id.
    delivered: Vec<String>,
    /// How many of them came again since the stream was resumed; `None` once something else came.
    repeated: Option<usize>,
}

impl Cursor {
    /// For the header `Last-Event-ID`.
    pub(super) fn id(&self) -> Option<&str> {
        self.id.as_deref()
    }

    /// A new connection begins.
    pub(super) fn resume(&mut self) {
        self.repeated = self.id.is_some().then_some(0);
    }

    /// Whether an event is news.
    pub(super) fn take(&mut self, event: &Event) -> bool {
        if event.id.is_empty() {
            self.repeated = None;
            return true;
        }
        if self.id.as_deref() != Some(&event.id) {
            *self = Self { id: Some(event.id.clone()), delivered: vec![event.data.clone()], repeated: None };
            return true;
        }
        if let Some(repeated) = self.repeated {
            if self.delivered.get(repeated) == Some(&event.data) {
                self.repeated = Some(repeated + 1);
                return false;
            }
            self.repeated = None;
        }
        if self.delivered.len() < MOST {
            self.delivered.push(event.data.clone());
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(text: &str) -> Event {
        let (id, data) = text.split_once(' ').unwrap();
        Event { id: id.to_owned(), data: data.to_owned() }
    }

    /// What is delivered of streams that are resumed one after the other.
    fn delivered(streams: &[&[&str]]) -> Vec<String> {
        let (mut cursor, mut all) = (Cursor::default(), Vec::new());
        for stream in streams {
            cursor.resume();
            all.extend(stream.iter().filter(|text| cursor.take(&event(text))).map(|text| (*text).to_owned()));
        }
        all
    }

    #[test]
    fn the_last_event_is_not_delivered_twice_whether_it_comes_again_or_not() {
        assert_eq!(delivered(&[&["1 a", "2 b"], &["2 b", "3 c"]]), ["1 a", "2 b", "3 c"]);
        assert_eq!(delivered(&[&["1 a", "2 b"], &["3 c"]]), ["1 a", "2 b", "3 c"]);
        assert_eq!(delivered(&[&["1 a"], &["1 a"], &["1 a", "2 a"]]), ["1 a", "2 a"]);
    }

    #[test]
    fn lines_of_one_time_are_told_apart_by_their_order() {
        assert_eq!(
            delivered(&[&["t a", "t b"], &["t a", "t b", "t c", "u d"]]),
            ["t a", "t b", "t c", "u d"]
        );
        assert_eq!(delivered(&[&["t a", "t a"], &["t a", "t a", "t a"]]), ["t a", "t a", "t a"]);
        // What was delivered is not repeated, and another line of the same time comes instead.
        assert_eq!(
            delivered(&[&["t a", "t b"], &["t c"], &["t a", "t b", "t c", "t d"]]),
            ["t a", "t b", "t c", "t d"]
        );
    }

    #[test]
    fn equal_lines_of_one_connection_are_all_delivered() {
        assert_eq!(delivered(&[&["t a", "t a", "u a", "u a"]]).len(), 4);
        assert_eq!(delivered(&[&[" a", " a"], &[" a"]]).len(), 3, "without ids nothing is known to be old");
    }
}
