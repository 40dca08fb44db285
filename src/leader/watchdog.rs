//! A thread that ends the process when its fence has closed and nothing else ended it.
//!
//! It needs no runtime: a stalled one is what it is for.

use std::thread;
use std::time::Duration;

use super::Fence;

/// How often it looks.
const EVERY: Duration = Duration::from_millis(250);

/// Calls `end` once the fence, open when this is called, has been closed for `grace`.
///
/// # Errors
/// The thread cannot be started.
pub fn watchdog(
    fence: Fence,
    grace: Duration,
    end: impl FnOnce() + Send + 'static,
) -> std::io::Result<thread::JoinHandle<()>> {
    thread::Builder::new().name("watchdog".to_owned()).spawn(move || {
        while fence.is_open() {
            thread::sleep(EVERY);
        }
        thread::sleep(grace);
        end();
    })
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;
    use crate::clock;

    #[test]
    fn it_waits_for_the_fence_to_close_and_then_for_the_grace() {
        let fence = Fence::closed();
        fence.extend(clock::since_boot() + Duration::from_millis(100));
        let began = clock::since_boot();
        let (end, ended) = mpsc::channel();
        let thread =
            watchdog(fence, Duration::from_millis(50), move || end.send(clock::since_boot()).unwrap());
        let at = ended.recv_timeout(Duration::from_secs(20)).unwrap();
        assert!(at >= began + Duration::from_millis(150));
        thread.unwrap().join().unwrap();
    }
}
