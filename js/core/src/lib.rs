//! What `tidegate` exports to JavaScript, linked into one `.wasm` file.
extern crate tidegate as _;
