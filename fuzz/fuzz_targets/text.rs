//! Any text is refused or planned; no plan for it may break a promise.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let broken = tandem::fuzz::judge_text(bytes);
    assert!(broken.is_empty(), "{broken:#?}");
});
