//! Being asked to end.

use std::io;

use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

/// From now on Ctrl-C, and a polite request to end (SIGTERM), don't end the process but send a message here.
///
/// # Errors
/// The system takes no handler: Ctrl-C goes on to end the process at once.
#[cfg(unix)]
pub(crate) fn listen() -> io::Result<UnboundedReceiver<()>> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let (sender, receiver) = unbounded_channel();
    tokio::spawn(async move {
        loop {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
            if sender.send(()).is_err() {
                return;
            }
        }
    });
    Ok(receiver)
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
