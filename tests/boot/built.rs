//! What cases build for themselves.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// The static executable that services are; see `payload.rs`.
pub fn payload() -> &'static Path {
    static PAYLOAD: OnceLock<PathBuf> = OnceLock::new();
    PAYLOAD.get_or_init(|| {
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/boot/payload.rs");
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join("payload");
        let built = Command::new("rustc")
            .args([
                "--edition",
                "2024",
                "-C",
                "opt-level=s",
                "-C",
                "target-feature=+crt-static",
                "-C",
                "panic=abort",
            ])
            .arg("-o")
            .args([&path, &source])
            .status();
        assert!(built.unwrap().success());
        path
    })
}
