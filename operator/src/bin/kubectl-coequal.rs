//! The plugin `kubectl coequal`.

use std::process::ExitCode;

fn main() -> ExitCode {
    coequal_operator::plugin::main()
}
