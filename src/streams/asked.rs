//! What the query of a request asks for. Pure.

use std::num::NonZeroU16;

use super::refused::Refused;

/// Ports of one request, at most: each is a connection.
const PORTS_MAX: usize = 64;

/// What is to be done over the upgraded connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Asked {
    /// Run a command.
    Exec { command: Vec<String>, wanted: Wanted },
    /// Join what runs already.
    Attach { wanted: Wanted },
    /// Carry connections to ports of the pod.
    Forward {
        /// Namespace and name, for messages.
        pod: String,
        uid: String,
        /// The ports that the query names; only the oldest protocol reads them.
        ports: Vec<NonZeroU16>,
    },
}

/// Which of a command's streams the client wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wanted {
    pub stdin: bool,
    pub stdout: bool,
    /// Never with a terminal, which has one output.
    pub stderr: bool,
    pub terminal: bool,
}

impl Asked {
    /// Of `/exec`, from its query as it came.
    ///
    /// # Errors
    /// When it wants no stream, or no command that a process could be given.
    pub fn exec(query: &str) -> Result<Self, Refused> {
        let pairs = pairs(query)?;
        let terminal = is_set(&pairs, "tty");
        let words = pairs.iter().filter(|(key, _)| key == "command").map(|(_, word)| word.clone());
        let command: Vec<String> = words.collect();
        if command.first().is_none_or(String::is_empty) {
            return Err(Refused::Query("you must specify at least one command for the container".to_owned()));
        }
        if command.iter().any(|word| word.contains('\0')) {
            return Err(Refused::Query("`command` has a NUL, which no argument can have".to_owned()));
        }
        Ok(Self::Exec { command, wanted: Wanted::parse(&pairs, terminal)? })
    }

    /// Of `/attach`, from its query as it came. Whether there is a terminal is the container's to say, not the query's.
    ///
    /// # Errors
    /// When it wants no stream.
    pub fn attach(query: &str, terminal: bool) -> Result<Self, Refused> {
        Ok(Self::Attach { wanted: Wanted::parse(&pairs(query)?, terminal)? })
    }

    /// Of `/portForward`, from its query as it came. `pod` (namespace and name) and `uid` are for messages.
    ///
    /// # Errors
    /// When it names something else than ports.
    pub fn forward(pod: impl Into<String>, uid: impl Into<String>, query: &str) -> Result<Self, Refused> {
        let mut ports = Vec::new();
        for (_, list) in pairs(query)?.iter().filter(|(key, _)| key == "port") {
            for port in list.split(',') {
                let port = port.parse().map_err(|_| {
                    Refused::Query(format!("unable to parse {list:?} as a port: expected 1 to 65535"))
                })?;
                ports.push(port);
            }
        }
        if ports.len() > PORTS_MAX {
            return Err(Refused::Query(format!("{} ports, expected {PORTS_MAX} at most", ports.len())));
        }
        Ok(Self::Forward { pod: pod.into(), uid: uid.into(), ports })
    }
}

impl Wanted {
    fn parse(pairs: &[(String, String)], terminal: bool) -> Result<Self, Refused> {
        let (stdin, stdout) = (is_set(pairs, "input"), is_set(pairs, "output"));
        // As a kubelet does: with a terminal it is dropped without a word.
        let stderr = is_set(pairs, "error") && !terminal;
        if !stdin && !stdout && !stderr {
            return Err(Refused::NoStreams);
        }
        Ok(Self { stdin, stdout, stderr, terminal })
    }
}

/// The API server writes `1`; the first of several counts.
fn is_set(pairs: &[(String, String)], key: &str) -> bool {
    pairs.iter().find(|(it, _)| it == key).is_some_and(|(_, value)| value == "1")
}

/// Keys and values, decoded. Nothing is passed over: a word of a command that is lost or mangled is another command.
fn pairs(query: &str) -> Result<Vec<(String, String)>, Refused> {
    let pairs = query.split('&').filter(|pair| !pair.is_empty());
    pairs
        .map(|pair| {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            let wrong =
                || Refused::Query(format!("the query has `{pair}`, which is not UTF-8 in percent encoding"));
            Ok((decode(key).ok_or_else(wrong)?, decode(value).ok_or_else(wrong)?))
        })
        .collect()
}

/// Undoes `+` and `%41`.
fn decode(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'+' => b' ',
            b'%' => digit(rest.next()?)? << 4 | digit(rest.next()?)?,
            byte => byte,
        });
    }
    String::from_utf8(bytes).ok()
}

fn digit(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).and_then(|digit| u8::try_from(digit).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted(letters: &str) -> Wanted {
        Wanted {
            stdin: letters.contains('i'),
            stdout: letters.contains('o'),
            stderr: letters.contains('e'),
            terminal: letters.contains('t'),
        }
    }

    #[test]
    fn a_command_is_read_to_the_letter() {
        let query =
            "command=sh&command=-c&command=echo+%22a%20b%22%3B%0A%26+%C3%A9+%2B&command=&output=1&error=1";
        let command = ["sh", "-c", "echo \"a b\";\n& \u{e9} +", ""].map(str::to_owned).to_vec();
        assert_eq!(Asked::exec(query), Ok(Asked::Exec { command, wanted: wanted("oe") }));
    }

    #[test]
    fn what_cannot_be_run_is_told() {
        for query in [
            "output=1",
            "command=&output=1",
            "command=a&command=%00&output=1",
            "command=%ff&output=1",
            "command=%4&output=1",
        ] {
            assert!(matches!(Asked::exec(query), Err(Refused::Query(_))), "{query}");
        }
        for query in ["command=a", "command=a&output=0", "command=a&error=1&tty=1"] {
            assert_eq!(Asked::exec(query), Err(Refused::NoStreams), "{query}");
        }
    }

    #[test]
    fn a_terminal_has_no_second_output_and_an_attachment_asks_the_container_for_it() {
        let exec = Asked::exec("command=sh&input=1&output=1&error=1&tty=1");
        assert_eq!(exec, Ok(Asked::Exec { command: vec!["sh".to_owned()], wanted: wanted("iot") }));
        let attach = |terminal| Asked::attach("input=1&output=1&error=1&tty=1", terminal);
        assert_eq!(attach(false), Ok(Asked::Attach { wanted: wanted("ioe") }));
        assert_eq!(attach(true), Ok(Asked::Attach { wanted: wanted("iot") }));
        assert_eq!(Asked::attach("", true), Err(Refused::NoStreams));
    }

    #[test]
    fn ports_are_ports() {
        let ports = |query: &str| match Asked::forward("ns/p", "u", query) {
            Ok(Asked::Forward { ports, .. }) => ports.into_iter().map(NonZeroU16::get).collect::<Vec<u16>>(),
            Ok(other) => panic!("{other:?}"),
            Err(Refused::Query(_)) => vec![0],
            Err(other) => panic!("{other:?}"),
        };
        assert!(ports("").is_empty());
        assert_eq!(ports("port=80&port=443,8080&timeout=3"), [80, 443, 8080]);
        for query in ["port=", "port=0", "port=65536", "port=http", "port=80,"] {
            assert_eq!(ports(query), [0], "{query}");
        }
        assert_eq!(ports(&"port=1&".repeat(PORTS_MAX + 1)), [0]);
    }

    proptest::proptest! {
        #[test]
        fn every_command_arrives(words in proptest::collection::vec("[^\0]{0,20}", 0..4)) {
            let mut query = String::from("output=1&command=x");
            for word in &words {
                query += "&command=";
                word.bytes().for_each(|byte| query += &format!("%{byte:02X}"));
            }
            let Ok(Asked::Exec { command, .. }) = Asked::exec(&query) else { panic!("{query}") };
            proptest::prop_assert_eq!(&command[1..], &words[..]);
        }

        #[test]
        fn any_query_is_read_or_refused(query: String) {
            drop(Asked::exec(&query));
            drop(Asked::attach(&query, true));
            drop(Asked::forward("ns/p", "u", &query));
        }
    }
}
