//! Finds the files that the paths of a crate lead to.

use std::collections::BTreeSet;

use super::scan::{Contents, Import, contents};
use crate::git::Tree;

/// One file uses an item that another one defines.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Use {
    pub(super) from: String,
    pub(super) to: String,
    pub(super) item: String,
    /// The line of the first such use.
    pub(super) line: usize,
}

/// The modules of a crate. The first one is its root.
#[derive(Debug)]
pub(super) struct Crate {
    modules: Vec<Module>,
}

#[derive(Debug)]
struct Module {
    name: String,
    file: String,
    parent: Option<usize>,
    contents: Contents,
}

/// Where a path leads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Target {
    Module(usize),
    /// An item that this module defines.
    ItemOf(usize),
}

/// The most re-exports that are followed for one name.
const MOST_REEXPORTS: usize = 16;

impl Crate {
    /// Reads the crate whose root is this file, from the files that its modules name.
    pub(super) fn read(tree: &Tree, root: &str) -> Self {
        let mut krate = Self { modules: Vec::new() };
        let folder = root.rsplit_once('/').map_or("", |(folder, _)| folder);
        let source = tree.get(root).map_or("", |file| file.text.as_str());
        krate.add(tree, "crate", root, folder, None, contents(source));
        krate
    }

    /// Adds a module with all modules below it. `folder` is where the files of its children are.
    fn add(
        &mut self,
        tree: &Tree,
        name: &str,
        file: &str,
        folder: &str,
        parent: Option<usize>,
        mut contents: Contents,
    ) {
        let (children, inline) =
            (std::mem::take(&mut contents.children), std::mem::take(&mut contents.inline));
        let index = self.modules.len();
        self.modules.push(Module { name: name.to_owned(), file: file.to_owned(), parent, contents });
        for (name, contents) in inline {
            self.add(tree, &name, file, &format!("{folder}/{name}"), Some(index), contents);
        }
        for (name, path) in children {
            let below = format!("{folder}/{name}");
            let candidates = match path {
                Some(path) => [format!("{folder}/{path}"), String::new()],
                None => [format!("{below}.rs"), format!("{below}/mod.rs")],
            };
            if let Some(source) = candidates.iter().find_map(|path| tree.get(path)) {
                self.add(tree, &name, &source.path, &below, Some(index), self::contents(&source.text));
            }
        }
    }

    /// Every use of one file's items by another, once for each pair of files.
    pub(super) fn uses(&self) -> Vec<Use> {
        let mut uses = BTreeSet::new();
        for (index, module) in self.modules.iter().enumerate() {
            let mut add = |segments: &[String], line: usize| {
                let Some(Target::ItemOf(target)) = self.resolve(index, segments, MOST_REEXPORTS) else {
                    return;
                };
                let to = &self.modules[target].file;
                if *to != module.file {
                    let item = segments.last().cloned().unwrap_or_default();
                    uses.insert(Use { from: module.file.clone(), to: to.clone(), item, line });
                }
            };
            for import in &module.contents.imports {
                if import.public {
                    let word = module.contents.words.iter().find(|(word, _)| *word == import.name);
                    word.into_iter().for_each(|(_, line)| add(&import.path.segments, *line));
                } else {
                    add(&import.path.segments, import.path.line);
                }
            }
            module.contents.paths.iter().for_each(|path| add(&path.segments, path.line));
        }
        let mut uses: Vec<Use> = uses.into_iter().collect();
        uses.sort_by(|a, b| (&a.from, &a.to, a.line).cmp(&(&b.from, &b.to, b.line)));
        uses.dedup_by(|a, b| a.from == b.from && a.to == b.to);
        uses
    }

    /// Where a path in a module leads; `None` if it leaves the crate.
    fn resolve(&self, from: usize, segments: &[String], most: usize) -> Option<Target> {
        let (first, rest) = segments.split_first()?;
        let (mut module, mut rest) = match first.as_str() {
            "crate" => (0, rest),
            "self" => (from, rest),
            "super" => (self.modules[from].parent?, rest),
            // A name that is not known here is of another crate or of the language.
            _ => return self.name(from, segments, most),
        };
        while let Some(("super", further)) = rest.split_first().map(|(first, rest)| (first.as_str(), rest)) {
            (module, rest) = (self.modules[module].parent?, further);
        }
        if rest.is_empty() {
            return Some(Target::Module(module));
        }
        // What is not found is made by a macro.
        Some(self.name(module, rest, most).unwrap_or(Target::ItemOf(module)))
    }

    /// Where a path leads whose first segment is a name in a module.
    fn name(&self, module: usize, segments: &[String], most: usize) -> Option<Target> {
        let (first, rest) = segments.split_first()?;
        let child = |(_, other): &(usize, &Module)| other.parent == Some(module) && other.name == *first;
        if let Some((child, _)) = self.modules.iter().enumerate().find(child) {
            return self.continue_at(Target::Module(child), rest, most);
        }
        let contents = &self.modules[module].contents;
        if contents.items.contains(first) {
            return Some(Target::ItemOf(module));
        }
        let most = most.checked_sub(1)?;
        let named = |import: &&Import| import.name == *first && import.path.segments.first() != Some(first);
        if let Some(import) = contents.imports.iter().find(named) {
            let target = self.resolve(module, &import.path.segments, most)?;
            return self.continue_at(target, rest, most);
        }
        let all = contents.imports.iter().filter(|import| import.name == "*");
        all.filter_map(|import| match self.resolve(module, &import.path.segments, most)? {
            Target::Module(other) if other != module => self.name(other, segments, most),
            Target::Module(_) | Target::ItemOf(_) => None,
        })
        .next()
    }

    fn continue_at(&self, target: Target, rest: &[String], most: usize) -> Option<Target> {
        match target {
            Target::Module(module) if !rest.is_empty() => {
                Some(self.name(module, rest, most).unwrap_or(Target::ItemOf(module)))
            }
            Target::Module(_) | Target::ItemOf(_) => Some(target),
        }
    }
}
