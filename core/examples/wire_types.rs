//! Prints the wire as TypeScript: `docs/schema/wire.ts` and `web/src/client/wire.ts`.
#![allow(clippy::print_stdout)] // printing is what this program is for

use std::{any::TypeId, collections::BTreeMap};

use switchboard_core::wire::{Answer, ChatEvent, ClientEnvelope, ControlEvent, PROTOCOL};
use ts_rs::{Config, TS, TypeVisitor};

/// Declarations by name, so that the order does not depend on that of the Rust source.
struct Declarations {
    config: Config,
    seen: Vec<TypeId>,
    by_name: BTreeMap<String, String>,
}

impl TypeVisitor for Declarations {
    fn visit<T: TS + 'static + ?Sized>(&mut self) {
        let id = TypeId::of::<T>();
        if self.seen.contains(&id) {
            return;
        }
        self.seen.push(id);
        T::visit_dependencies(self);
        T::visit_generics(self);
        // Types without a file of their own are the built-in ones.
        if T::output_path().is_some() {
            let docs = T::docs().unwrap_or_default();
            let declaration = format!("{docs}export {}\n", T::decl(&self.config));
            self.by_name.insert(T::ident(&self.config), declaration);
        }
    }
}

fn main() {
    let mut declarations =
        Declarations { config: Config::default(), seen: Vec::new(), by_name: BTreeMap::new() };
    declarations.visit::<ClientEnvelope>();
    declarations.visit::<Answer>(); // flattened into `respond`, so nothing refers to it by name
    declarations.visit::<ChatEvent>();
    declarations.visit::<ControlEvent>();
    println!("// Generated from core/src/wire by `cargo xtask schema`; do not edit.");
    println!("\n/** The version of the protocol, and the WebSocket subprotocol that offers it. */");
    println!("export const PROTOCOL = {PROTOCOL:?};");
    let either =
        "/** Whatever a client may receive. */\nexport type ServerEvent = ChatEvent | ControlEvent;\n";
    declarations.by_name.insert("ServerEvent".to_owned(), either.to_owned());
    for declaration in declarations.by_name.values() {
        print!("\n{}", tidy(declaration));
    }
}

/// One-line comments on one line, and no white space at the end of lines.
fn tidy(declaration: &str) -> String {
    let lines: Vec<&str> = declaration.lines().map(str::trim_end).collect();
    let mut text = String::new();
    let mut rest = lines.as_slice();
    while let [line, after @ ..] = rest {
        if let (&"/**", [comment, " */", others @ ..]) = (line, after) {
            text += &format!("/** {} */\n", comment.trim_start_matches(" * "));
            rest = others;
        } else {
            text += &format!("{line}\n");
            rest = after;
        }
    }
    text
}
