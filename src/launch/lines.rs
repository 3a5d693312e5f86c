//! The output of several processes in one stream: whole lines, each behind the name of who wrote it.

/// What one process writes to one stream, cut into lines.
pub(crate) struct Lines {
    prefix: Vec<u8>,
    /// The beginning of a line whose end has not come yet.
    begun: Vec<u8>,
}

/// A longer line is broken: it is kept in memory until its end comes.
const LONGEST: usize = 1 << 20;

impl Lines {
    /// Of a process of this name.
    pub(crate) fn new(name: &str) -> Self {
        Self { prefix: format!("[{name}] ").into_bytes(), begun: Vec::new() }
    }

    /// Our own, which need no name.
    pub(crate) fn ours() -> Self {
        Self { prefix: Vec::new(), begun: Vec::new() }
    }

    /// Takes in what was read, and puts the lines that are complete by it into `out`.
    pub(crate) fn take(&mut self, bytes: &[u8], out: &mut Vec<u8>) {
        for piece in bytes.split_inclusive(|&byte| byte == b'\n') {
            self.begun.extend_from_slice(piece);
            if piece.ends_with(b"\n") || self.begun.len() >= LONGEST {
                self.flush(out);
            }
        }
    }

    /// The last line, where it has no end. One is added: what others write next is a line of its own.
    pub(crate) fn flush(&mut self, out: &mut Vec<u8>) {
        if self.begun.is_empty() {
            return;
        }
        out.extend_from_slice(&self.prefix);
        out.append(&mut self.begun);
        if !out.ends_with(b"\n") {
            out.push(b'\n');
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_whole_and_exact_however_they_arrive() {
        let text = b"one\n\ntwo \xff\0 bytes\r\nthe last";
        let expected = b"[a] one\n[a] \n[a] two \xff\0 bytes\r\n[a] the last\n";
        for size in 1..=text.len() {
            let (mut lines, mut out) = (Lines::new("a"), Vec::new());
            text.chunks(size).for_each(|chunk| lines.take(chunk, &mut out));
            lines.flush(&mut out);
            lines.flush(&mut out);
            assert_eq!(out, expected, "in pieces of {size}");
        }
    }

    #[test]
    fn a_line_without_end_does_not_grow_for_ever() {
        let (mut lines, mut out) = (Lines::new("a"), Vec::new());
        (0..40).for_each(|_| lines.take(&[b'x'; 1 << 16], &mut out));
        assert_eq!(out.iter().filter(|&&byte| byte == b'\n').count(), 2);
        lines.flush(&mut out);
        assert_eq!(out.iter().filter(|&&byte| byte == b'x').count(), 40 << 16);
    }
}
