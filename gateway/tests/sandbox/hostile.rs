//! A hostile agent: it attempts what a prompt lists, by name, and reports the results.

use std::{
    fs::{self, OpenOptions},
    io::{self, Read, Write},
    os::unix::net::UnixStream,
    path::Path,
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use switchboard_test_support::TIMEOUT;

/// The first argument that makes this binary the agent.
pub(crate) const AS_HOSTILE: &str = "as-hostile-agent";

/// Answers one prompt: a list of `[name, verb, path]`. Its answer is an object: what went well is `null`, what was
/// found a list, and what failed a text.
#[allow(clippy::print_stdout, reason = "it is what an agent says")]
pub(crate) fn run() {
    let mut prompt = String::new();
    io::stdin().read_to_string(&mut prompt).unwrap();
    let attempts: Vec<(String, String, String)> = serde_json::from_str(&prompt).unwrap();
    let tried = attempts.into_iter().map(|(name, verb, path)| {
        let found = match attempt(&verb, Path::new(&path)) {
            Ok(found) => found,
            Err(error) => json!(error.to_string()),
        };
        (name, found)
    });
    println!("{}", Value::Object(tried.collect()));
}

fn attempt(verb: &str, path: &Path) -> io::Result<Value> {
    match verb {
        "read" => fs::File::open(path)?.read_exact(&mut [0])?,
        "open" => drop(fs::File::open(path)?),
        "to write" => drop(OpenOptions::new().append(true).open(path)?),
        "connect" => drop(UnixStream::connect(path)?),
        "append" => {
            OpenOptions::new().append(true).open(path)?.write_all(b"# hostile\n")?;
            // A copy that is thrown away with the sandbox does not count.
            if path.parent().is_some_and(is_thrown_away) {
                return Err(io::Error::other("it is not the real file"));
            }
        }
        "create" => fs::write(path, "# hostile\n")?,
        // A file that cannot be written may still be replaced by another one.
        "replace" => {
            let draft = path.with_extension("hostile");
            fs::write(&draft, "# hostile\n")?;
            fs::rename(&draft, path).inspect_err(|_| drop(fs::remove_file(&draft)))?;
        }
        // Or its directory may be replaced.
        "move" => {
            let aside = path.with_extension("aside");
            fs::rename(path, &aside)?;
            fs::rename(&aside, path)?;
        }
        "sockets" => return Ok(all(path, &|path| UnixStream::connect(path).is_ok())),
        "writable" => {
            return Ok(all(path, &|path| {
                path.is_file() && OpenOptions::new().append(true).open(path).is_ok()
            }));
        }
        // Waits until the test has acted as the owner.
        "wait" => {
            let begun = Instant::now();
            while !path.exists() {
                if begun.elapsed() > TIMEOUT {
                    return Err(io::ErrorKind::TimedOut.into());
                }
                std::thread::sleep(Duration::from_millis(5));
            }
        }
        "places" => return Ok(all(path, &|path| path.is_dir() && can_make_files(path))),
        "run" => {
            let words: Vec<&str> = path.to_str().unwrap().split(' ').collect();
            let ran = std::process::Command::new(words[0]).args(&words[1..]).output()?;
            if !ran.status.success() {
                return Err(io::Error::other(String::from_utf8_lossy(&ran.stderr)));
            }
        }
        other => panic!("{other}"),
    }
    Ok(Value::Null)
}

fn is_thrown_away(dir: &Path) -> bool {
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    mounts.lines().any(|line| {
        line.split(' ').nth(4).is_some_and(|at| Path::new(at) == dir) && line.contains(" - tmpfs ")
    })
}

/// Whether others would find a file that is made there.
fn can_make_files(dir: &Path) -> bool {
    let file = dir.join("hostile");
    let made = !is_thrown_away(dir) && fs::write(&file, "").is_ok();
    let _ = fs::remove_file(&file);
    made
}

/// The directory and all files and directories in it for which the condition is true, sorted.
fn all(dir: &Path, is_true: &dyn Fn(&Path) -> bool) -> Value {
    const DEEPEST: usize = 6;
    let mut found: Vec<_> = Some(dir.to_owned()).filter(|dir| is_true(dir)).into_iter().collect();
    let mut unvisited = vec![(dir.to_owned(), 0)];
    while let Some((dir, depth)) = unvisited.pop() {
        for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
            match entry.file_type() {
                Ok(kind) if kind.is_dir() && depth < DEEPEST => {
                    unvisited.push((entry.path(), depth + 1));
                    found.extend(Some(entry.path()).filter(|path| is_true(path)));
                }
                Ok(_) if is_true(&entry.path()) => found.push(entry.path()),
                Ok(_) | Err(_) => {}
            }
        }
    }
    found.sort();
    json!(found)
}
