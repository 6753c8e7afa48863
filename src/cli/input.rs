//! Files and stdin as chunks, for the commands that work on raw lines.
//!
//! Read in pieces, so that a file of any size and an endless pipe need the memory of one piece. Frames longer than
//! the limit are cut, as in a run, and told on stderr.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::cli::{Failure, message};
use crate::clock;
use crate::error::{Error, ErrorKind, nearest};
use crate::event::{Chunk, Sender};
use crate::frame::{self, FRAMERS};
use crate::limits::{FRAME_BYTES_MAX, READ_BYTES};
use crate::pipeline::offline;

/// Where raw lines come from and what they are.
#[derive(clap::Args)]
pub(super) struct Input {
    /// A file; `-` is stdin.
    #[arg(default_value = "-")]
    file: PathBuf,
    /// The format of the lines; `auto` looks at each.
    #[arg(long, default_value = "auto", value_parser = decoder, conflicts_with = "source")]
    pub(super) decoder: String,
    /// How frames are found in the bytes.
    #[arg(long, default_value = "newline", value_parser = framing)]
    framing: String,
}

/// Checks the name of a decoder.
pub(super) fn decoder(name: &str) -> Result<String, String> {
    offline::decoders(name).map(|_| name.to_owned())
}

fn framing(name: &str) -> Result<String, String> {
    let names = || FRAMERS.iter().map(|kind| kind.name());
    if frame::find(name).is_some() {
        return Ok(name.to_owned());
    }
    let near = nearest(name, names()).map_or(String::new(), |near| format!("did you mean `{near}`? "));
    Err(format!("there is no framing `{name}`; {near}one of: {}", names().collect::<Vec<_>>().join(", ")))
}

impl Input {
    /// A file with a frame a line; `-` is stdin.
    pub(super) fn lines(file: PathBuf, decoder: String) -> Self {
        Self { file, decoder, framing: "newline".to_owned() }
    }

    /// Calls `each` with every chunk of the input and the number of its first frame, from 1.
    pub(super) fn chunks(&self, each: impl FnMut(Chunk, u64) -> Result<(), Failure>) -> Result<(), Failure> {
        if self.file == Path::new("-") {
            return self.read(std::io::stdin().lock(), each);
        }
        let file = File::open(&self.file)
            .map_err(|error| Error::new(ErrorKind::Storage, "open", error.to_string()).with("file", self.file.display()))?;
        self.read(file, each)
    }

    /// The same for what `input` gives.
    pub(super) fn read(&self, mut input: impl Read, mut each: impl FnMut(Chunk, u64) -> Result<(), Failure>) -> Result<(), Failure> {
        let Some(kind) = frame::find(&self.framing) else { return Ok(()) };
        let mut framer = kind.build(FRAME_BYTES_MAX);
        let sender = Arc::new(Sender { source: "input".into(), source_index: 0 });
        let mut piece = vec![0; READ_BYTES];
        let mut buffer = Vec::new();
        let (mut number, mut cut) = (1, 0);
        loop {
            let count = match input.read(&mut piece) {
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
                result => {
                    result.map_err(|error| Error::new(ErrorKind::Storage, "read", error.to_string()).with("file", self.file.display()))?
                }
            };
            buffer.extend_from_slice(&piece[..count]);
            let end = count == 0;
            while !buffer.is_empty() {
                let mut frames = Vec::new();
                let split = framer.split(&buffer, end, &mut frames);
                if split.used == 0 {
                    break;
                }
                cut += split.cut;
                let rest = buffer.split_off(split.used);
                let bytes = std::mem::replace(&mut buffer, rest);
                let first = number;
                number += frames.len() as u64;
                each(Chunk::new(bytes, frames, sender.clone(), clock::now_ms()), first)?;
            }
            if end {
                break;
            }
        }
        if cut > 0 {
            message(&format!("{cut} frames were longer than {FRAME_BYTES_MAX} bytes and were cut"));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_numbered_through_all_pieces_of_the_input() {
        let arguments = Input { file: "-".into(), decoder: "auto".into(), framing: "newline".into() };
        let line = "x".repeat(100);
        let text = format!("{line}\n").repeat(5_000) + "last";
        let mut frames = Vec::new();
        let result = arguments.read(text.as_bytes(), |chunk, first| {
            assert_eq!(first, frames.len() as u64 + 1);
            frames.extend((0..chunk.frames().len()).map(|frame| chunk.frame(frame).to_vec()));
            Ok(())
        });
        assert!(result.is_ok());
        assert_eq!(frames.len(), 5_001);
        assert!(frames[..5_000].iter().all(|frame| frame == line.as_bytes()) && frames[5_000] == b"last");
    }
}
