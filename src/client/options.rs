//! What every kind of call can be told.

/// The methods that every kind of call has; `self.options` is its [`CallOptions`](super::exchange::CallOptions).
macro_rules! call_options {
    () => {
        /// Sets the workload the call belongs to. Default `normal`. A name not known yet makes a workload in class
        /// normal.
        pub fn workload(mut self, workload: impl Into<String>) -> Self {
            self.options.workload = Some(workload.into());
            self
        }

        /// Sets the total time the call may take, waiting included. Default: the client's.
        pub fn deadline(mut self, deadline: std::time::Duration) -> Self {
            self.options.deadline = Some(deadline);
            self
        }

        /// Sets the call's clocks. Default: the client's.
        pub fn clocks(mut self, clocks: crate::core::call::Clocks) -> Self {
            self.options.clocks = Some(clocks);
            self
        }

        /// Sets how many attempts may fail before the call does. Default: the client's.
        pub fn max_attempts(mut self, attempts: u32) -> Self {
            self.options.max_attempts = Some(attempts);
            self
        }

        /// Waits for room when the queue is full. Default: the call is refused as
        /// [`QueueFull`](crate::ErrorKind::QueueFull).
        pub fn wait_for_room(mut self) -> Self {
            self.options.on_full = crate::core::scheduler::OnFull::Wait;
            self
        }
    };
}

pub(super) use call_options;
