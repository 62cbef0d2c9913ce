//! The `switchboard` command. See `switchboard --help`.

fn main() -> std::process::ExitCode {
    switchboard_gateway::run()
}
