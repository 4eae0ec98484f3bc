//! Fuzz target: whatever the bytes, opening and reading them as MP4 ends, and does not panic. Runs
//! for a moment as a test, and under `cargo bolero test` for as long as one likes.

use fanmill_control::player::demux::{Mp4, Source};

#[test]
fn no_bytes_are_worse_than_a_refusal() {
    bolero::check!().for_each(|input: &[u8]| {
        read(input.to_vec());
        // The same bytes as the content of a movie: random ones hardly ever begin with a box.
        let mut movie = ((input.len() + 8) as u32).to_be_bytes().to_vec();
        movie.extend_from_slice(b"moov");
        movie.extend_from_slice(input);
        read(movie);
    });
}

fn read(bytes: Vec<u8>) {
    let len = bytes.len() as u64;
    let Ok(mp4) = Mp4::open(Source::new(bytes, len)) else {
        return;
    };
    let Ok(mut reader) = mp4.reader() else {
        return;
    };
    let mut buffer = Vec::new();
    while let Ok(Some(sample)) = reader.next_sample() {
        let _ = reader.read(&sample, &mut buffer);
    }
    let _ = reader.seek(1_000_000);
}
