//! `switchboard backup` and `switchboard restore`: copy all chats to one file, and back.

use std::{fs, io, path::Path, process::ExitCode};

use switchboard_runtime::{BackupReport, Sqlite};

use crate::{
    cli::{BackupArgs, PlaceArgs, RestoreArgs, ServeArgs},
    config::Config,
    console,
    data_dir::{DataDir, HOSTS, JOURNAL, check},
    failure::{Failure, Result},
};

/// Copies all chats to a file, even while a gateway runs on the data directory.
///
/// # Errors
///
/// There are no chats, the data directory is open to others, or the backup cannot be made.
pub(crate) fn backup(args: &BackupArgs) -> Result<ExitCode> {
    let data_dir = Config::read(&serve_args(&args.place))?.data_dir;
    if fs::metadata(data_dir.join(JOURNAL)).is_err_and(|error| error.kind() == io::ErrorKind::NotFound) {
        return Err(Failure::new(
            format!("There are no chats in {}: no gateway has kept any there.", data_dir.display()),
            "Name the data directory of the gateway with --data-dir.",
        ));
    }
    check(&data_dir)?;
    let report = Sqlite::backup(&data_dir.join(JOURNAL), &args.file).map_err(|error| {
        Failure::new(
            format!("The backup was not made: {error}."),
            "Nothing was changed. The data directory is named with --data-dir.",
        )
    })?;
    console::line(&format!("{} now holds {}.", args.file.display(), shown(report)));
    Ok(ExitCode::SUCCESS)
}

/// Restores a backup into a data directory without chats.
///
/// # Errors
///
/// A gateway runs on the directory, the directory contains chats or agents, or the backup cannot be read. The directory
/// is then left as it was.
pub(crate) fn restore(args: &RestoreArgs) -> Result<ExitCode> {
    let config = Config::read(&serve_args(&args.place))?;
    let data_dir = DataDir::open(&config.data_dir)?;
    let report = match restore_into(&data_dir, &args.file) {
        Ok(report) => report,
        Err(failure) => {
            data_dir.undo();
            return Err(failure);
        }
    };
    console::line(&format!(
        "{} now holds {}. Clients that were connected before are told that their chats were restored.",
        data_dir.path().display(),
        shown(report)
    ));
    Ok(ExitCode::SUCCESS)
}

fn restore_into(data_dir: &DataDir, file: &Path) -> Result<BackupReport> {
    refuse_chats(data_dir.path())?;
    Sqlite::restore(file, &data_dir.path().join(JOURNAL)).map_err(|error| {
        Failure::new(
            format!("The backup was not restored: {error}."),
            "No chat was changed. Name a file that `switchboard backup` made, and an empty directory with --data-dir.",
        )
    })
}

/// Refuses a directory with chats, which would be overwritten, or with agents' hosts, whose agents may still be
/// running.
fn refuse_chats(data_dir: &Path) -> Result<()> {
    let entries = fs::read_dir(data_dir).map_err(Failure::system)?;
    for entry in entries {
        let name = entry.map_err(Failure::system)?.file_name();
        let name = name.to_string_lossy();
        // Left by a gateway that found no journal, or by a restore that was killed.
        let holds_none = name.ends_with(".partial") || name == "journal.db.lock";
        if (name.starts_with(JOURNAL) && !holds_none) || name == HOSTS {
            return Err(Failure::new(
                format!("The data directory {} holds chats already ({name}).", data_dir.display()),
                "Nothing was changed. Move the directory away first, or name another one with --data-dir.",
            ));
        }
    }
    Ok(())
}

fn serve_args(PlaceArgs { data_dir, config }: &PlaceArgs) -> ServeArgs {
    ServeArgs { data_dir: data_dir.clone(), config: config.clone(), ..ServeArgs::default() }
}

fn shown(report: BackupReport) -> String {
    let chats = if report.chats == 1 { "chat" } else { "chats" };
    format!("{} {chats} ({} KiB)", report.chats, report.bytes.div_ceil(1024))
}
