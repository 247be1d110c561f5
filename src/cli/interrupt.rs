//! Being asked to end.

use std::io;

use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

/// From now on Ctrl-C, a polite request to end (SIGTERM) and, on Linux, a terminal that is closed (SIGHUP) don't end the
/// process but send a message here.
///
/// # Errors
/// The system takes no handler: Ctrl-C goes on to end the process at once.
#[cfg(unix)]
pub(crate) fn listen() -> io::Result<UnboundedReceiver<()>> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut hangup = if hangup_ends() { Some(signal(SignalKind::hangup())?) } else { None };
    let (sender, receiver) = unbounded_channel();
    tokio::spawn(async move {
        let mut asked = false;
        loop {
            let hung_up = async {
                match &mut hangup {
                    Some(hangup) => hangup.recv().await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
                // The shell and the system may both tell of one closed terminal: that is not someone who asks again.
                _ = hung_up => if asked { continue },
            }
            asked = true;
            if sender.send(()).is_err() {
                return;
            }
        }
    });
    Ok(receiver)
}

/// Whether a closed terminal is to end this process: not if it was started by `nohup` or the like, which have it ignored.
/// A handler would end that, so where it can't be known, which is elsewhere than on Linux, there is none.
#[cfg(unix)]
fn hangup_ends() -> bool {
    const SIGHUP: u32 = 1;
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let ignored = ignored.and_then(|mask| u128::from_str_radix(mask.trim(), 16).ok());
    ignored.is_some_and(|mask| mask & (1 << (SIGHUP - 1)) == 0)
}

/// From now on Ctrl-C doesn't end the process but sends a message here.
///
/// # Errors
/// The system takes no handler: Ctrl-C goes on to end the process at once.
#[cfg(windows)]
pub(crate) fn listen() -> io::Result<UnboundedReceiver<()>> {
    let mut interrupt = tokio::signal::windows::ctrl_c()?;
    let (sender, receiver) = unbounded_channel();
    tokio::spawn(async move { while interrupt.recv().await.is_some() && sender.send(()).is_ok() {} });
    Ok(receiver)
}
