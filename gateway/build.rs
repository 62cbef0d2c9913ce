//! Lists the page's bundle so that it is compiled into the binary. Builds without a bundle too: the page then
//! says that it is missing.

use std::{
    env, fs, io,
    path::{Path, PathBuf},
};

/// Where the bundle lies, seen from this crate.
const BUNDLE: &str = "../web/dist";

fn main() -> io::Result<()> {
    println!("cargo::rerun-if-changed={BUNDLE}");
    let root = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").unwrap_or_default()).join(BUNDLE);
    let mut files = Vec::new();
    if root.join("index.html").is_file() {
        collect(&root, &root, &mut files)?;
    }
    files.sort();
    let mut table = String::from("pub(super) static BUNDLE: &[(&str, &[u8])] = &[\n");
    for name in files {
        let path = format!("/{BUNDLE}/{name}");
        table.push_str(&format!(
            "    ({name:?}, include_bytes!(concat!(env!(\"CARGO_MANIFEST_DIR\"), {path:?}))),\n"
        ));
    }
    table.push_str("];\n");
    let out = PathBuf::from(env::var_os("OUT_DIR").unwrap_or_default());
    fs::write(out.join("bundle.rs"), table)
}

fn collect(root: &Path, dir: &Path, files: &mut Vec<String>) -> io::Result<()> {
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        if path.is_dir() {
            collect(root, &path, files)?;
        } else if let Some(name) = path.strip_prefix(root).ok().and_then(Path::to_str) {
            files.push(name.to_owned());
        }
    }
    Ok(())
}
