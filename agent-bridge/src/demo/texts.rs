//! The texts of the demo agent.

/// Thinking before an answer.
pub(super) const THOUGHTS: &[&str] = &[
    "The message is no command that I know, so this is a good moment to introduce myself and show some Markdown.",
    "I have no model behind me. What I can do is show how an answer streams, so let me do that well.",
    "A friendly answer, a table, a bit of code: that shows what the page can do.",
];

pub(super) const LONG_THOUGHT: &str = "Let me think about this properly. First I should look at what is being asked. \
    Then I should look at what is not being asked, which is often more interesting. There are several ways to go about \
    it: the obvious one, the clever one, and the one that still works next year. The obvious one has an edge case. The \
    clever one has three, but they are harder to see. So the third it is, and now I only have to write it down.";

pub(super) const PARAGRAPH: &str = "A log that is written before it is shown can be shown again: after a lost \
    connection, on another screen, after a restart. Everything else follows from keeping its numbers without a gap.";

/// Output of the pretended command.
pub(super) const LISTING: &str =
    "total 8\n-rw-r--r-- 1 demo demo 120 main.rs\n-rw-r--r-- 1 demo demo  48 greeting.rs\n";

const OPENINGS: &[&str] = &[
    "Hello! I am the demo agent of **Switchboard**, a gateway between chat clients and coding agents.",
    "Good to hear from you. No model is connected, so you are talking to **Switchboard**'s built-in demo agent.",
    "Thanks for the message! I am a demo agent, a small program that stands in for a real coding agent.",
];

const TABLE: &str = "| If this happens | you see |\n|---|---|\n| the connection drops | nothing is lost; the answer goes on |\n\
    | the page is reloaded | the same answer, still streaming |\n| I ask for leave | the same prompt in every window |\n\
    | I crash | a clear end of the turn |\n";

const EXAMPLES: &[(&str, &str)] = &[
    (
        "rust",
        "fn main() {\n    let who = \"Switchboard\";\n    println!(\"Hello from {who}!\"); // 1 + 1 = 2\n}",
    ),
    (
        "python",
        "def greet(who: str) -> str:\n    \"\"\"Says hello.\"\"\"\n    return f\"Hello from {who}!\"\n\nprint(greet(\"Switchboard\"))",
    ),
    (
        "ts",
        "const greet = (who: string): string => `Hello from ${who}!`;\nconsole.log(greet(\"Switchboard\")); // typed",
    ),
];

const CLOSINGS: &[&str] = &[
    "Say `help` to see what else I can do.",
    "Try `permission`, `question` or `edit`, or say `help` for the whole list.",
    "Say `slow` and reload the page while I talk. Or say `help`.",
];

/// An answer to any prompt that is not a command.
pub(super) fn answer(pick: usize, message: &str) -> String {
    let opening = OPENINGS[pick % OPENINGS.len()];
    let (language, code) = EXAMPLES[(pick / 3) % EXAMPLES.len()];
    let closing = CLOSINGS[(pick / 9) % CLOSINGS.len()];
    let quoted: String = message.chars().take(280).collect::<String>().replace('\n', "\n> ");
    let more = if message.chars().count() > 280 { " …" } else { "" };
    format!(
        "{opening}\n\nYou wrote:\n\n> {quoted}{more}\n\n{TABLE}\nAnd a little code, to see how it looks:\n\n\
         ```{language}\n{code}\n```\n\n{closing}"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_answer_says_that_it_comes_from_the_demo_agent() {
        for pick in 0..OPENINGS.len() * EXAMPLES.len() * CLOSINGS.len() {
            let answer = answer(pick, "Please review my code.");
            assert!(answer.split("You wrote:").next().unwrap().contains("demo agent"), "{answer}");
        }
    }
}
