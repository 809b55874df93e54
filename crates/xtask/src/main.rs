//! Developer verbs: `cargo xtask setup|demo|test|bench|image|cluster|crdgen|render|tidy`.
#![allow(clippy::print_stdout, reason = "a developer tool answers on standard output")]

mod args;
mod bench;
mod cluster;
mod command;
mod crdgen;
mod demo;
mod image;
mod render;
mod repository;
mod setup;
mod table;
mod test;
mod tidy;

use std::process::ExitCode;

use args::Verb;

fn main() -> ExitCode {
    let done = match args::read() {
        Verb::Setup(options) => {
            setup::setup(options.need()).map(|()| println!("nothing is missing"))
        }
        Verb::Demo(options) => demo::demo(&options),
        Verb::Test(options) => test::test(&options),
        Verb::Bench(options) => bench::bench(&options),
        Verb::Image(options) => image::image(&options),
        Verb::Cluster(options) => cluster::cluster(&options),
        Verb::Crdgen => crdgen::crdgen(),
        Verb::Render => render::render(),
        Verb::Tidy => tidy::tidy(),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
