//! What `tidegate` exports to JavaScript, linked into one `.wasm` file.
//!
//! Without the standard library, so that a panic costs nothing but a trap: its own handler would bring along the words,
//! the places in the source and the formatting of every check there is.
#![cfg_attr(all(target_family = "wasm", target_os = "unknown"), no_std)]
extern crate tidegate as _;

#[cfg(all(target_family = "wasm", target_os = "unknown"))]
mod bare {
    use core::panic::PanicInfo;

    use rlsf::SmallGlobalTlsf;

    #[global_allocator]
    static ALLOCATOR: SmallGlobalTlsf = SmallGlobalTlsf::new();

    #[panic_handler]
    fn panic(_: &PanicInfo<'_>) -> ! {
        core::arch::wasm32::unreachable()
    }
}
