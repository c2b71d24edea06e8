//! The other half of the house's rule that no shipped program contains a fault: here they are, and the same search
//! finds them.

use coequal_protocol::faults::Fault;

#[test]
fn this_program_contains_every_fault_by_its_words() {
    let program = std::fs::read(std::env::current_exe().expect("a program")).expect("readable");
    for fault in Fault::ALL {
        let words = fault.words().as_bytes();
        assert!(program.windows(words.len()).any(|part| part == words), "{fault:?}");
    }
}
