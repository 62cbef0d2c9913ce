//! The scripted model as a program, for tests that are not written in Rust. Prints its address, and ends with its
//! standard input.
#![allow(clippy::print_stdout, reason = "it says where it listens")]

use std::io;

use switchboard_test_support::scripted_model;

fn main() -> io::Result<()> {
    println!("{}", scripted_model());
    io::copy(&mut io::stdin(), &mut io::sink()).map(drop)
}
