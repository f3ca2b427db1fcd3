//! The files that decisions are kept in: one JSON object to a line, a file for each part of the time.
//!
//! Invariant: a file is only ever added to, and taken away whole, so a place in one stays that place for as long as it is there.
//! A line that a crash left without its end is none.

use std::{
    borrow::Cow,
    fmt,
    fs::{self, DirBuilder, File},
    io::{self, BufRead, BufReader, Read, Seek, SeekFrom},
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
    str::FromStr,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use platform_base::clock;
use serde::de::{Deserializer, IgnoredAny, MapAccess, Visitor};
use tokio::{io::AsyncWriteExt, sync::mpsc, time::timeout};

use super::{Decision, Decisions, RecorderCounts, Wanted, redaction::Redaction};

/// Largest line; a larger decision is not kept.
const LINE_BYTES: usize = 64 << 10;
/// Decisions that are written at once.
const BATCH: usize = 256;
/// Files that hold what is kept; one of them at a time is taken away.
const PARTS: u64 = 16;
/// How often it is looked for what is too old.
const MINUTE: Duration = Duration::from_secs(60);
const SUFFIX: &str = "jsonl";

/// A directory of files.
#[derive(Debug, Clone)]
pub(super) struct Files {
    directory: PathBuf,
    keep_bytes: u64,
    keep_time: Duration,
}

/// A place between two decisions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Position {
    /// Unix time at which the file was begun, in nanoseconds.
    file: u64,
    /// Bytes before the place.
    offset: u64,
}

/// The text is no place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("it is no place in the files of decisions")]
pub struct InvalidPosition;

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.file, self.offset)
    }
}

impl FromStr for Position {
    type Err = InvalidPosition;

    fn from_str(text: &str) -> Result<Self, InvalidPosition> {
        let (file, offset) = text.split_once('.').ok_or(InvalidPosition)?;
        let number = |text: &str| text.parse().map_err(|_no_number| InvalidPosition);
        Ok(Self { file: number(file)?, offset: number(offset)? })
    }
}

impl Files {
    pub(super) fn open(directory: &Path, keep_bytes: u64, keep_time: Duration) -> io::Result<Self> {
        DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
        let files = Self { directory: directory.to_owned(), keep_bytes, keep_time };
        files.list()?;
        Ok(files)
    }

    pub(super) fn keep_ns(&self) -> u64 {
        u64::try_from(self.keep_time.as_nanos()).unwrap_or(u64::MAX)
    }

    /// When each file was begun, in order.
    fn list(&self) -> io::Result<Vec<u64>> {
        let mut begun = Vec::new();
        for entry in fs::read_dir(&self.directory)? {
            let name = PathBuf::from(entry?.file_name());
            let known = name.extension().is_some_and(|suffix| suffix == SUFFIX);
            begun.extend(name.file_stem().filter(|_| known).and_then(|stem| stem.to_str()?.parse::<u64>().ok()));
        }
        begun.sort_unstable();
        Ok(begun)
    }

    fn path(&self, begun: u64) -> PathBuf {
        self.directory.join(format!("{begun:020}.{SUFFIX}"))
    }

    /// Takes files away until those that stay are within bounds. The one that is written to stays.
    fn trim(&self) -> io::Result<()> {
        let begun = self.list()?;
        let oldest_ns = clock::unix_ns().saturating_sub(self.keep_ns());
        let sizes = begun.iter().map(|begun| Ok(fs::metadata(self.path(*begun))?.len()));
        let sizes = sizes.collect::<io::Result<Vec<u64>>>()?;
        let mut bytes: u64 = sizes.iter().sum();
        // What a file holds is older than the file after it.
        for ((file, after), size) in begun.iter().zip(begun.iter().skip(1)).zip(sizes) {
            if *after > oldest_ns && bytes <= self.keep_bytes {
                break;
            }
            fs::remove_file(self.path(*file))?;
            bytes = bytes.saturating_sub(size);
        }
        Ok(())
    }

    /// A page of decisions.
    pub(super) fn read(&self, wanted: &Wanted, after: Option<Position>, page_bytes: usize) -> io::Result<Decisions> {
        let begun = self.list()?;
        let slot = wanted.slot.to_string();
        let mut page = Decisions::default();
        let (mut bytes, mut found) = (0, 0);
        for (index, file) in begun.iter().copied().enumerate() {
            let old = begun.get(index + 1).is_some_and(|after| *after < wanted.since_ns);
            let offset = after.filter(|after| after.file == file).map_or(0, |after| after.offset);
            if old || after.is_some_and(|after| after.file > file) {
                continue;
            }
            let mut lines = match Lines::open(&self.path(file), offset) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                lines => lines?,
            };
            while let Some(line) = lines.next()? {
                let Some(head) = Head::read(line).filter(|_| line.ends_with(b"\n")) else { continue };
                bytes += line.len();
                if head.slot == slot && head.time_ns >= wanted.since_ns {
                    page.lines.extend_from_slice(line);
                    found += 1;
                }
                if found >= wanted.limit || bytes >= page_bytes {
                    page.next = Some(Position { file, offset: lines.offset });
                    return Ok(page);
                }
            }
        }
        Ok(page)
    }
}

/// What tells whether a decision is wanted.
struct Head<'a> {
    slot: Cow<'a, str>,
    time_ns: u64,
}

impl<'a> Head<'a> {
    /// Reads no more of a line than holds it: the rest is for whoever asked for the decision.
    fn read(line: &'a [u8]) -> Option<Self> {
        let mut head = None;
        // Left in its middle, the object is taken for a broken one: what counts is what was found until then.
        let _ = serde_json::Deserializer::from_slice(line).deserialize_map(Members(&mut head));
        head
    }
}

/// Goes through the members of a decision until its head is found.
struct Members<'h, 'a>(&'h mut Option<Head<'a>>);

impl<'a> Visitor<'a> for Members<'_, 'a> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a decision")
    }

    fn visit_map<A: MapAccess<'a>>(self, mut members: A) -> Result<(), A::Error> {
        let (mut slot, mut time_ns) = (None, None);
        while let Some(name) = members.next_key::<&str>()? {
            match name {
                "slot" => slot = Some(members.next_value()?),
                "time_ns" => time_ns = Some(members.next_value()?),
                _ => drop(members.next_value::<IgnoredAny>()?),
            }
            if let (Some(slot), Some(time_ns)) = (&mut slot, time_ns) {
                *self.0 = Some(Head { slot: std::mem::take(slot), time_ns });
                break;
            }
        }
        Ok(())
    }
}

/// The lines of a file from a place on.
struct Lines {
    file: BufReader<File>,
    offset: u64,
    line: Vec<u8>,
}

impl Lines {
    fn open(path: &Path, offset: u64) -> io::Result<Self> {
        let mut file = File::open(path)?;
        file.seek(SeekFrom::Start(offset))?;
        Ok(Self { file: BufReader::with_capacity(LINE_BYTES, file), offset, line: Vec::new() })
    }

    /// The next line that has its end. Of one that is longer than any that was written comes what fits.
    fn next(&mut self) -> io::Result<Option<&[u8]>> {
        self.line.clear();
        let most = u64::try_from(LINE_BYTES + 1).unwrap_or(u64::MAX);
        let read = self.file.by_ref().take(most).read_until(b'\n', &mut self.line)?;
        let whole = self.line.last() == Some(&b'\n') || self.line.len() > LINE_BYTES;
        self.offset += u64::try_from(read).unwrap_or_default();
        Ok(whole.then_some(&self.line))
    }
}

/// Writes decisions to the newest file.
#[derive(Debug)]
pub(super) struct Writer {
    files: Files,
    redaction: Redaction,
    counts: Arc<RecorderCounts>,
    current: Option<Current>,
}

#[derive(Debug)]
struct Current {
    file: tokio::fs::File,
    begun: u64,
    bytes: u64,
}

impl Writer {
    pub(super) fn new(files: Files, redaction: Redaction, counts: Arc<RecorderCounts>) -> Self {
        Self { files, redaction, counts, current: None }
    }

    /// Writes what comes until `cancelled`, and then what waits.
    pub(super) async fn run(
        mut self, mut decisions: mpsc::Receiver<Decision<'static>>, cancelled: impl Future<Output = ()> + Send,
    ) {
        tokio::pin!(cancelled);
        let mut batch = Vec::with_capacity(BATCH);
        let mut closing = false;
        loop {
            tokio::select! {
                () = &mut cancelled, if !closing => {
                    decisions.close();
                    closing = true;
                }
                came = timeout(MINUTE, decisions.recv_many(&mut batch, BATCH)) => match came {
                    Ok(0) => return,
                    Ok(_) => self.keep(&mut batch).await,
                    Err(_nothing) => if let Err(error) = self.files.trim() {
                        tracing::warn!(%error, "old decisions could not be taken away");
                    },
                }
            }
        }
    }

    async fn keep(&mut self, batch: &mut Vec<Decision<'static>>) {
        let came = u64::try_from(batch.len()).unwrap_or_default();
        let (text, written) = self.text(batch);
        let kept = match self.write(&text).await {
            Ok(()) => written,
            Err(error) => {
                // What follows may not be told from a line that was begun.
                self.current = None;
                tracing::warn!(%error, decisions = came, "decisions could not be kept");
                0
            }
        };
        self.counts.kept.fetch_add(kept, Ordering::Relaxed);
        self.counts.lost.fetch_add(came - kept, Ordering::Relaxed);
    }

    /// The lines of decisions, and how many there are: those that are too large are left out.
    fn text(&self, batch: &mut Vec<Decision<'static>>) -> (Vec<u8>, u64) {
        let (mut text, mut written) = (Vec::new(), 0);
        for mut decision in batch.drain(..) {
            self.redaction.apply(&mut decision);
            let before = text.len();
            let whole = serde_json::to_writer(&mut text, &decision).is_ok();
            text.push(b'\n');
            if whole && text.len() - before <= LINE_BYTES {
                written += 1;
            } else {
                text.truncate(before);
            }
        }
        (text, written)
    }

    async fn write(&mut self, text: &[u8]) -> io::Result<()> {
        if text.is_empty() {
            return Ok(());
        }
        let now = clock::unix_ns();
        let part_ns = self.files.keep_ns() / PARTS;
        let part_bytes = self.files.keep_bytes / PARTS;
        let full = |current: &Current| current.bytes >= part_bytes || now.saturating_sub(current.begun) > part_ns;
        if self.current.as_ref().is_none_or(full) {
            // The clock may stand still or go back: names go on all the same.
            let begun = self.files.list()?.last().map_or(now, |last| now.max(last + 1));
            let mut options = tokio::fs::OpenOptions::new();
            let file = options.create_new(true).append(true).mode(0o600).open(self.files.path(begun)).await?;
            self.current = Some(Current { file, begun, bytes: 0 });
            self.files.trim()?;
        }
        if let Some(current) = self.current.as_mut() {
            current.file.write_all(text).await?;
            current.file.flush().await?;
            current.bytes += u64::try_from(text.len()).unwrap_or_default();
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use platform_base::TaskGroup;

    use super::*;

    fn line(slot: &str, time_ns: u64, target: &str) -> String {
        let decision = Decision { slot: slot.into(), time_ns, target: target.into(), ..Decision::default() };
        serde_json::to_string(&decision).unwrap() + "\n"
    }

    fn wanted(since_ns: u64, limit: usize) -> Wanted {
        Wanted { slot: "auth.policy".parse().unwrap(), since_ns, limit }
    }

    fn targets(page: &Decisions) -> Vec<String> {
        Decisions::read(&page.lines).map(|decision| decision.target.into_owned()).collect()
    }

    fn files(keep_bytes: u64) -> (tempfile::TempDir, Files) {
        let folder = tempfile::tempdir().unwrap();
        let files = Files::open(&folder.path().join("decisions"), keep_bytes, Duration::from_secs(3600)).unwrap();
        (folder, files)
    }

    #[test]
    fn pages_go_on_where_the_last_ended() {
        let (_folder, files) = files(1 << 20);
        let lines = |range: std::ops::Range<u64>| -> String {
            range.map(|time| line("auth.policy", time, &time.to_string())).collect()
        };
        fs::write(files.path(10), lines(10..15) + &line("auth.policy/other", 15, "other")).unwrap();
        fs::write(files.path(20), lines(20..25)).unwrap();
        for limit in 1..12 {
            let (mut seen, mut after) = (Vec::new(), None);
            loop {
                let page = files.read(&wanted(0, limit), after, 1 << 20).unwrap();
                let times: Vec<u64> = Decisions::read(&page.lines).map(|decision| decision.time_ns).collect();
                assert!(times.len() <= limit);
                seen.extend(times);
                // A place is carried as text.
                let Some(next) = page.next else { break };
                after = Some(next.to_string().parse().unwrap());
            }
            assert_eq!(seen, [10, 11, 12, 13, 14, 20, 21, 22, 23, 24], "{limit} at a time");
        }
        assert_eq!(targets(&files.read(&wanted(13, 3), None, 1 << 20).unwrap()), ["13", "14", "20"]);
        assert_eq!(targets(&files.read(&wanted(22, 9), None, 1 << 20).unwrap()), ["22", "23", "24"]);
        let small = files.read(&wanted(0, 100), None, 1).unwrap();
        assert!(Decisions::read(&small.lines).count() == 1 && small.next.is_some(), "a page is bounded in bytes");
        for bad in ["", "1", "1.", ".1", "1.x", "-1.0", "1.2.3"] {
            assert!(bad.parse::<Position>().is_err(), "{bad}");
        }
        let forged = Some(Position { file: 10, offset: 7 });
        assert_eq!(targets(&files.read(&wanted(0, 2), forged, 1 << 20).unwrap()), ["11", "12"]);
        let beyond = Some(Position { file: u64::MAX, offset: u64::MAX });
        assert!(files.read(&wanted(0, 2), beyond, 1 << 20).unwrap().lines.is_empty());
    }

    #[test]
    fn what_is_torn_is_passed_over() {
        let (_folder, files) = files(1 << 20);
        let whole = line("auth.policy", 1, "whole");
        let (half, _) = whole.split_at(whole.len() / 2);
        let long = line("auth.policy", 2, &"x".repeat(3 * LINE_BYTES));
        let text = format!("{whole}not json\n\n\u{fffd}{half}\n{long}{whole}{half}");
        fs::write(files.path(1), text).unwrap();
        fs::write(files.path(2), "").unwrap();
        fs::write(files.path(3), &whole).unwrap();
        fs::write(files.directory.join("notes.txt"), "what is not ours").unwrap();
        let page = files.read(&wanted(0, 100), None, 1 << 20).unwrap();
        assert_eq!(targets(&page), ["whole", "whole", "whole"]);
    }

    #[tokio::test]
    async fn what_is_kept_is_bounded_and_comes_back() {
        let (_folder, files) = files(64 << 10);
        let counts = Arc::new(RecorderCounts::default());
        let writer = Writer::new(files.clone(), Redaction::parse(["header:cookie"]).unwrap(), Arc::clone(&counts));
        let (queue, decisions) = mpsc::channel(16);
        let tasks = TaskGroup::new();
        tasks.spawn("decisions", writer.run(decisions, tasks.cancelled()));
        let count = 2_000;
        for number in 0..count {
            let decision = Decision {
                slot: "auth.policy".into(),
                time_ns: number,
                target: "x".repeat(100).into(),
                headers: [("cookie", format!("secret-{number}"))].into_iter().collect(),
                ..Decision::default()
            };
            queue.send(decision).await.unwrap();
        }
        let large = Decision { target: "x".repeat(LINE_BYTES).into(), ..Decision::default() };
        queue.send(large).await.unwrap();
        drop(queue);
        assert_eq!(tasks.join(Duration::from_secs(60)).await.len(), 0, "what waits is written at the end");
        assert_eq!((counts.kept.load(Ordering::Relaxed), counts.lost.load(Ordering::Relaxed)), (count, 1));
        let begun = files.list().unwrap();
        let sizes: u64 = begun.iter().map(|file| fs::metadata(files.path(*file)).unwrap().len()).sum();
        let part = files.keep_bytes / PARTS + u64::try_from(BATCH * 400).unwrap();
        assert!(sizes <= files.keep_bytes + part, "{sizes} bytes are kept");
        let page = files.read(&wanted(0, usize::MAX), None, usize::MAX).unwrap();
        let times: Vec<u64> = Decisions::read(&page.lines).map(|decision| decision.time_ns).collect();
        let first = *times.first().unwrap();
        assert!(first > 0 && times.iter().copied().eq(first..count), "the latest are kept, each once");
        let kept = fs::read_to_string(files.path(*begun.last().unwrap())).unwrap();
        assert!(!kept.contains("secret") && kept.contains("header:cookie"));
    }
}
