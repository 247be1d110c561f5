//! The files a batch writes: whole lines only, whatever happens, and what an earlier run has left in them.
//!
//! **Answers** are the journal: an id is done when, and only when, its line stands there whole. A run that was killed
//! may have left half a line; it is cut off on the next start and its id asked again. Answers are never rewritten.
//!
//! **Errors** tell what one run could not do. The next run tries all of that again, so it starts the file anew before it
//! sends anything: no id stands in both files.

use std::collections::VecDeque;
use std::fs::{File, Metadata, OpenOptions, TryLockError};
use std::io::{self, BufReader, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use super::ids::Ids;
use super::lines::Lines;
use super::record;

/// Why a file can't be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FileError {
    #[error("{path}: this is a directory; name a file in it", path = .0.display())]
    Directory(PathBuf),
    #[error("{path}: not a regular file; answers are resumed from it, so it has to be one", path = .0.display())]
    NotAFile(PathBuf),
    #[error("{path}: the folder {parent} does not exist", path = .path.display(), parent = .parent.display())]
    NoFolder { path: PathBuf, parent: PathBuf },
    #[error("{path}: is named twice, as {first} and as {second}", path = .path.display())]
    NamedTwice { path: PathBuf, first: &'static str, second: &'static str },
    #[error("{path}: another run is writing to it", path = .0.display())]
    Locked(PathBuf),
    #[error(
        "{path}, line {line}: not an answer in batch output form, so this file is left alone; name another with {option}",
        path = .path.display()
    )]
    Foreign { path: PathBuf, line: u64, option: &'static str },
    #[error("{path}: {error}", path = .path.display())]
    Io { path: PathBuf, error: io::Error },
}

/// Something that can be appended to and cut off: a file, or a full disk in a test.
pub(super) trait Storage {
    /// How many bytes there are, whoever wrote them.
    fn end(&mut self) -> io::Result<u64>;
    /// Writes at `offset`, the end of what is kept, as much as there is room for.
    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> io::Result<usize>;
    /// Cuts off everything after `len`.
    fn truncate(&mut self, len: u64) -> io::Result<()>;
    /// Waits until what was written has reached the disk.
    fn sync(&mut self) -> io::Result<()>;
}

impl Storage for File {
    fn end(&mut self) -> io::Result<u64> {
        Ok(self.metadata()?.len())
    }

    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> io::Result<usize> {
        self.seek(SeekFrom::Start(offset))?;
        self.write(bytes)
    }

    fn truncate(&mut self, len: u64) -> io::Result<()> {
        self.set_len(len)
    }

    fn sync(&mut self) -> io::Result<()> {
        self.sync_data()
    }
}

/// Where a file was opened, to notice if another program takes it away from there.
pub(super) struct Place {
    file: File,
    path: PathBuf,
    /// What tells it from the file that may stand there later, if anything does.
    identity: Option<Identity>,
}

#[cfg(unix)]
type Identity = (u64, u64);
/// The system itself forbids to delete or replace a file that is open, or does not tell.
#[cfg(not(unix))]
type Identity = std::convert::Infallible;

#[cfg(unix)]
fn identity(metadata: &Metadata) -> Option<Identity> {
    use std::os::unix::fs::MetadataExt;
    Some((metadata.dev(), metadata.ino()))
}

#[cfg(not(unix))]
fn identity(_: &Metadata) -> Option<Identity> {
    None
}

impl Place {
    fn new(file: &File, path: &Path) -> io::Result<Self> {
        let opened = file.metadata().ok().and_then(|metadata| identity(&metadata));
        let found = path.metadata().ok().and_then(|metadata| identity(&metadata));
        // Some network file systems give a file another number each time.
        let identity = opened.filter(|_| opened == found);
        Ok(Self { file: file.try_clone()?, path: path.to_owned(), identity })
    }

    /// Whether the file is no longer found there: another program has moved, deleted or replaced it, and what is appended
    /// goes where nobody will find it.
    pub(super) fn is_left(&self) -> bool {
        self.identity.is_some()
            && match self.path.metadata() {
                Ok(metadata) => identity(&metadata) != self.identity,
                // Any other error says nothing of the file.
                Err(error) => error.kind() == io::ErrorKind::NotFound,
            }
    }

    /// Writes the whole file once more, there or, if something else is there, beside it. Returns where that is.
    pub(super) fn rescue(&mut self) -> io::Result<PathBuf> {
        let mut beside = self.path.clone().into_os_string();
        beside.push(".rescued");
        let beside = PathBuf::from(beside);
        let (path, mut copy) = match File::create_new(&self.path) {
            Ok(copy) => (self.path.clone(), copy),
            Err(_) => (beside.clone(), File::create_new(beside)?),
        };
        self.file.rewind()?;
        io::copy(&mut self.file, &mut copy)?;
        copy.sync_data()?;
        Ok(path)
    }
}

/// Appends whole lines: each is in the operating system's hands before the call returns, or it is kept to be tried
/// again and the file ends where the last whole one does.
pub(super) struct Appender<S> {
    storage: S,
    /// Where the last whole line ends.
    len: u64,
    /// A part of a line may stand behind `len`.
    torn: bool,
    /// Another program has written to it or cut it off.
    changed: bool,
    unwritten: VecDeque<Vec<u8>>,
}

impl<S: Storage> Appender<S> {
    /// Appends behind the first `len` bytes.
    pub(super) fn new(storage: S, len: u64) -> Self {
        Self { storage, len, torn: false, changed: false, unwritten: VecDeque::new() }
    }

    /// Appends `line`, after those that could not be written before.
    ///
    /// # Errors
    /// The line is kept, to be written by the next call of this or of [`flush`](Self::flush).
    pub(super) fn append(&mut self, line: Vec<u8>) -> io::Result<()> {
        self.unwritten.push_back(line);
        self.flush()
    }

    /// Tries again what could not be written.
    pub(super) fn flush(&mut self) -> io::Result<()> {
        while let Some(line) = self.unwritten.front_mut() {
            if self.torn {
                self.storage.truncate(self.len)?;
                self.torn = false;
            }
            let mut end = self.storage.end()?;
            if end != self.len {
                // Some network file systems know it only when what was written has arrived.
                self.storage.sync()?;
                end = self.storage.end()?;
            }
            if end != self.len {
                // What others wrote stays as it is, and ours begins on a line of its own.
                self.changed = true;
                self.len = end;
                line.insert(0, b'\n');
            }
            if let Err(error) = write_whole(&mut self.storage, self.len, line) {
                // Should this fail too, the next write or the next run cuts it off.
                self.torn = self.storage.truncate(self.len).is_err();
                return Err(error);
            }
            self.len += line.len() as u64;
            self.unwritten.pop_front();
        }
        Ok(())
    }

    /// Flushes, and waits until everything has reached the disk.
    pub(super) fn finish(&mut self) -> io::Result<()> {
        self.flush()?;
        self.storage.sync()
    }

    /// Whether another program has written to it or cut it off. What is appended then stands behind that.
    pub(super) fn changed(&self) -> bool {
        self.changed
    }

    /// How many lines could not be written yet.
    pub(super) fn unwritten(&self) -> usize {
        self.unwritten.len()
    }
}

fn write_whole<S: Storage>(storage: &mut S, mut offset: u64, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        match storage.write_at(offset, bytes) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(written) => {
                offset += written as u64;
                bytes = bytes.get(written..).unwrap_or_default();
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// What an earlier run left behind.
pub(super) struct Earlier {
    /// Where the file is, to be looked at while it is written.
    pub(super) place: Place,
    /// The ids that are answered.
    pub(super) ids: Ids,
    /// Bytes of a torn last line that were cut off.
    pub(super) cut: u64,
}

/// Opens the file of answers for one run alone, reads what it holds and repairs its end.
pub(super) fn open_answers(path: &Path) -> Result<(Appender<File>, Earlier), FileError> {
    const OPTION: &str = "--output";
    let io_error = |error| FileError::Io { path: path.to_owned(), error };
    let mut file = open_locked(path)?;
    let mut ids = Ids::default();
    let mut lines = Lines::new(BufReader::with_capacity(1 << 16, &file), MAX_ANSWER_BYTES);
    let mut line = Vec::new();
    let mut len = 0;
    let mut missing_newline = false;
    let mut cut = 0;
    while let Some(info) = lines.read(&mut line).map_err(io_error)? {
        let blank = line.trim_ascii().is_empty() && !info.too_long;
        if let Some(id) = record::answered_id(&line) {
            ids.answered(&id);
            missing_newline = !info.terminated;
        } else if !info.terminated && !info.too_long && is_torn(&line) {
            cut = lines.offset() - len;
            break;
        } else if !blank {
            return Err(FileError::Foreign { path: path.to_owned(), line: info.number, option: OPTION });
        }
        len = lines.offset();
    }
    drop(lines);
    let place = Place::new(&file, path).map_err(io_error)?;
    if cut > 0 {
        file.truncate(len).map_err(io_error)?;
    }
    if missing_newline {
        write_whole(&mut file, len, b"\n").map_err(io_error)?;
        len += 1;
    }
    Ok((Appender::new(file, len), Earlier { place, ids, cut }))
}

/// No answer is that long (the largest models' are a few MB): a line over this isn't one.
const MAX_ANSWER_BYTES: usize = 256 << 20;

/// Whether this can be the beginning of one of our lines. A power cut may also leave a stretch of zeros at the end.
fn is_torn(tail: &[u8]) -> bool {
    let prefix = record::PREFIX.as_bytes();
    let common = tail.len().min(prefix.len());
    tail.get(..common) == prefix.get(..common) || tail.iter().all(|&byte| byte == 0)
}

/// Opens the file of errors for one run alone and empties it, if it is one.
pub(super) fn open_errors(path: &Path) -> Result<Appender<File>, FileError> {
    let io_error = |error| FileError::Io { path: path.to_owned(), error };
    let file = open_locked(path)?;
    let mut line = Vec::new();
    if let Some(info) = Lines::new(BufReader::new(&file), MAX_ANSWER_BYTES).read(&mut line).map_err(io_error)?
        && !record::is_error_line(&line)
        && (info.terminated || info.too_long || !is_torn(&line))
    {
        return Err(FileError::Foreign { path: path.to_owned(), line: info.number, option: "--errors" });
    }
    file.set_len(0).map_err(io_error)?;
    Ok(Appender::new(file, 0))
}

fn open_locked(path: &Path) -> Result<File, FileError> {
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(path)
        .map_err(|error| FileError::Io { path: path.to_owned(), error })?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(FileError::Locked(path.to_owned())),
        // Some network file systems have no locks; that is no reason to refuse them.
        Err(TryLockError::Error(error)) if error.kind() == io::ErrorKind::Unsupported => Ok(file),
        Err(TryLockError::Error(error)) => Err(FileError::Io { path: path.to_owned(), error }),
    }
}

/// Checks what can be known of a batch's files before any of them is touched. `input` is `None` for standard input.
pub(super) fn check_paths(input: Option<&Path>, answers: &Path, errors: &Path) -> Result<(), FileError> {
    for path in [answers, errors] {
        check_output(path)?;
    }
    let named_twice = |path: &Path, first, second| Err(FileError::NamedTwice { path: path.to_owned(), first, second });
    if same_file(answers, errors) {
        return named_twice(answers, "output", "errors");
    }
    for (path, name) in [(answers, "output"), (errors, "errors")] {
        // What is said there would be written over it.
        if let Some(stream) = standard_stream(path) {
            return named_twice(path, stream, name);
        }
    }
    if let Some(input) = input {
        if same_file(input, answers) {
            return named_twice(input, "input", "output");
        }
        if same_file(input, errors) {
            return named_twice(input, "input", "errors");
        }
    }
    Ok(())
}

fn check_output(path: &Path) -> Result<(), FileError> {
    match path.metadata() {
        Ok(metadata) if metadata.is_dir() => Err(FileError::Directory(path.to_owned())),
        Ok(metadata) if !metadata.is_file() => Err(FileError::NotAFile(path.to_owned())),
        Ok(_) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => match path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() && !parent.exists() => {
                Err(FileError::NoFolder { path: path.to_owned(), parent: parent.to_owned() })
            }
            _ => Ok(()),
        },
        Err(error) => Err(FileError::Io { path: path.to_owned(), error }),
    }
}

/// Which of the program's own streams goes to the file, if one does: `> out.jsonl`, or the path `/dev/stdout`.
#[cfg(unix)]
fn standard_stream(path: &Path) -> Option<&'static str> {
    use std::os::fd::AsFd;
    let found = identity(&path.metadata().ok()?);
    let (stdout, stderr) = (io::stdout(), io::stderr());
    [(stdout.as_fd(), "standard output"), (stderr.as_fd(), "standard error")].into_iter().find_map(|(stream, name)| {
        let stream = File::from(stream.try_clone_to_owned().ok()?);
        (identity(&stream.metadata().ok()?) == found).then_some(name)
    })
}

/// The system does not tell.
#[cfg(not(unix))]
fn standard_stream(_: &Path) -> Option<&'static str> {
    None
}

/// Whether two paths lead to one file, by way of links too. Files that don't exist yet are compared by folder and name.
fn same_file(a: &Path, b: &Path) -> bool {
    #[cfg(unix)]
    if let (Ok(a), Ok(b)) = (a.metadata(), b.metadata()) {
        use std::os::unix::fs::MetadataExt;
        return (a.dev(), a.ino()) == (b.dev(), b.ino());
    }
    let whole = |path: &Path| {
        path.canonicalize().ok().or_else(|| {
            let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
            Some(parent.canonicalize().ok()?.join(path.file_name()?))
        })
    };
    whole(a).is_some_and(|a| whole(b) == Some(a))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::caller::Reply;
    use bytes::Bytes;
    use proptest::prelude::*;
    use std::fs;

    fn answer(id: &str) -> Vec<u8> {
        record::answer(id, &Reply { status: 200, request_id: None, body: Bytes::from_static(b"{\"x\":\"\xC3\xA9\"}") })
    }

    fn ids_in(bytes: &[u8]) -> Vec<String> {
        bytes.split_inclusive(|&b| b == b'\n').map(|line| record::answered_id(line).expect("a whole line")).collect()
    }

    /// A disk that takes only so many bytes, a few at a time, and may refuse to cut files off while it is full.
    struct SmallDisk {
        kept: Vec<u8>,
        room: usize,
        refuses_truncate: bool,
    }

    impl Storage for SmallDisk {
        fn end(&mut self) -> io::Result<u64> {
            Ok(self.kept.len() as u64)
        }

        fn write_at(&mut self, offset: u64, bytes: &[u8]) -> io::Result<usize> {
            assert_eq!(offset, self.kept.len() as u64, "every write goes to the end");
            let n = bytes.len().min(self.room.saturating_sub(self.kept.len())).min(7);
            if n == 0 {
                return Err(io::ErrorKind::StorageFull.into());
            }
            self.kept.extend_from_slice(&bytes[..n]);
            Ok(n)
        }

        fn truncate(&mut self, len: u64) -> io::Result<()> {
            if self.refuses_truncate {
                return Err(io::ErrorKind::Other.into());
            }
            self.kept.truncate(len as usize);
            Ok(())
        }

        fn sync(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    // Elsewhere a hard link is not told from a file of its own.
    #[cfg(unix)]
    #[test]
    fn the_hard_link_of_the_input_is_not_taken_as_output() {
        let dir = tempfile::tempdir().unwrap();
        let [input, link, fresh] = ["in.jsonl", "link.jsonl", "fresh.jsonl"].map(|name| dir.path().join(name));
        fs::write(&input, "{}\n").unwrap();
        fs::hard_link(&input, &link).unwrap();
        let check = |answers: &Path, errors: &Path| check_paths(Some(&input), answers, errors);
        assert!(matches!(check(&link, &fresh), Err(FileError::NamedTwice { second: "output", .. })));
        assert!(matches!(check(&fresh, &link), Err(FileError::NamedTwice { second: "errors", .. })));
        let detour = dir.path().join(".").join("fresh.jsonl");
        assert!(matches!(check(&fresh, &detour), Err(FileError::NamedTwice { first: "output", .. })));
        assert!(check(&fresh, &dir.path().join("other")).is_ok());
        assert!(!fresh.exists(), "nothing is made by looking");
    }

    #[test]
    fn what_cannot_be_an_output_is_refused_by_name() {
        let dir = tempfile::tempdir().unwrap();
        let errors = dir.path().join("errors");
        assert!(matches!(check_paths(None, dir.path(), &errors), Err(FileError::Directory(_))));
        let deep = dir.path().join("no").join("such");
        assert!(matches!(check_paths(None, &deep, &errors), Err(FileError::NoFolder { .. })));
        #[cfg(unix)]
        assert!(matches!(check_paths(None, Path::new("/dev/null"), &errors), Err(FileError::NotAFile(_))));
    }

    #[test]
    fn two_runs_cannot_share_an_output() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("out");
        let held = open_answers(&path).unwrap();
        assert!(matches!(open_answers(&path), Err(FileError::Locked(_))));
        drop(held);
        assert!(open_answers(&path).is_ok());
    }

    #[test]
    fn a_file_that_holds_something_else_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("out");
        for text in
            ["dear diary", "{\"custom_id\":\"a\",\"body\":{}}\n", "{}", "\u{feff}{\"id\":\"x\"}\n", "{\"id\":\"b"]
        {
            for bytes in [text.as_bytes().to_vec(), [answer("a"), text.as_bytes().to_vec()].concat()] {
                let torn = text == "{\"id\":\"b";
                fs::write(&path, &bytes).unwrap();
                match open_answers(&path) {
                    Err(FileError::Foreign { line, .. }) => {
                        assert_eq!(line as usize, bytes.split_inclusive(|&b| b == b'\n').count());
                        assert_eq!(fs::read(&path).unwrap(), bytes);
                        assert!(!torn);
                    }
                    Ok(_) => assert!(torn, "{text:?} was taken for an output"),
                    Err(other) => panic!("{other}"),
                }
                fs::write(&path, text).unwrap();
                assert_eq!(open_errors(&path).is_ok(), torn);
            }
        }
    }

    #[test]
    fn the_error_file_starts_anew_with_each_run() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("errors");
        for _ in 0..2 {
            let mut errors = open_errors(&path).unwrap();
            errors.append(record::bad_line(Some("a"), 1, "invalid_json", "no")).unwrap();
            errors.finish().unwrap();
        }
        assert_eq!(fs::read_to_string(&path).unwrap().lines().count(), 1);
    }

    #[test]
    fn an_answer_without_its_newline_is_whole() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("out");
        fs::write(&path, answer("a").trim_ascii()).unwrap();
        let (mut answers, mut earlier) = open_answers(&path).unwrap();
        assert!(!earlier.ids.answered("a") && earlier.cut == 0);
        answers.append(answer("b")).unwrap();
        assert_eq!(ids_in(&fs::read(&path).unwrap()), ["a", "b"]);
    }

    // Elsewhere the lock keeps other programs from it.
    #[cfg(unix)]
    #[test]
    fn what_another_program_does_to_an_open_file_overwrites_nothing_and_leaves_no_hole() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("out");
        let (mut answers, _) = open_answers(&path).unwrap();
        answers.append(answer("a")).unwrap();
        assert!(!answers.changed());
        OpenOptions::new().append(true).open(&path).unwrap().write_all(b"mine").unwrap();
        answers.append(answer("b")).unwrap();
        answers.append(answer("c")).unwrap();
        assert!(answers.changed());
        assert_eq!(fs::read(&path).unwrap(), [&answer("a")[..], b"mine\n", &answer("b"), &answer("c")].concat());

        fs::write(&path, "").unwrap();
        answers.append(answer("d")).unwrap();
        drop(answers);
        let (_, earlier) = open_answers(&path).unwrap();
        assert_eq!((earlier.ids.len(), earlier.cut), (1, 0));
    }

    #[cfg(unix)]
    #[test]
    fn a_file_that_was_moved_deleted_or_replaced_is_written_once_more_beside_what_is_there() {
        let dir = tempfile::tempdir().unwrap();
        let [path, moved, beside] = ["out", "moved", "out.rescued"].map(|name| dir.path().join(name));
        let (mut answers, mut earlier) = open_answers(&path).unwrap();
        answers.append(answer("a")).unwrap();
        assert!(!earlier.place.is_left());
        fs::rename(&path, &moved).unwrap();
        assert!(earlier.place.is_left());
        assert_eq!(earlier.place.rescue().unwrap(), path);
        assert_eq!(fs::read(&path).unwrap(), answer("a"));

        let (_answers, mut earlier) = open_answers(&path).unwrap();
        fs::write(&moved, "another").unwrap();
        fs::rename(&moved, &path).unwrap();
        assert!(earlier.place.is_left());
        assert_eq!(earlier.place.rescue().unwrap(), beside);
        assert_eq!((fs::read(&path).unwrap(), fs::read(&beside).unwrap()), (b"another".to_vec(), answer("a")));
        assert!(earlier.place.rescue().is_err(), "what was rescued before is not overwritten");
    }

    #[test]
    fn zeros_left_by_a_power_cut_are_cut_off() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("out");
        fs::write(&path, [answer("a"), vec![0; 5000]].concat()).unwrap();
        let (_, earlier) = open_answers(&path).unwrap();
        assert_eq!((earlier.ids.len(), earlier.cut), (1, 5000));
        assert_eq!(fs::read(&path).unwrap(), answer("a"));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn killed_at_any_byte_every_id_ends_exactly_once(count in 1usize..6, cuts in proptest::collection::vec(0.0f64..=1.0, 1..5)) {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("out");
            let all: Vec<String> = (0..count).map(|n| format!("id-{n}-ü")).collect();
            for cut in cuts {
                let (mut answers, mut earlier) = open_answers(&path).unwrap();
                for id in &all {
                    if earlier.ids.admit(id) == super::super::ids::Admission::New {
                        answers.append(answer(id)).unwrap();
                    }
                }
                drop(answers);
                let bytes = fs::read(&path).unwrap();
                let mut ids = ids_in(&bytes);
                ids.sort();
                prop_assert_eq!(&ids, &all);
                fs::write(&path, &bytes[..(bytes.len() as f64 * cut) as usize]).unwrap();
            }
        }

        #[test]
        fn a_full_disk_tears_no_line_and_loses_none_that_was_kept(
            rooms in proptest::collection::vec((0usize..900, any::<bool>()), 1..6),
        ) {
            let disk = SmallDisk { kept: Vec::new(), room: 0, refuses_truncate: false };
            let mut answers = Appender::new(disk, 0);
            let mut all = Vec::new();
            for (room, refuses) in rooms {
                answers.storage.room = room.max(answers.storage.kept.len());
                answers.storage.refuses_truncate = refuses;
                for _ in 0..2 {
                    all.push(format!("id-{}", all.len()));
                    let _ = answers.append(answer(all.last().unwrap()));
                    if !refuses && !answers.torn {
                        ids_in(&answers.storage.kept);
                    }
                }
            }
            answers.storage.room = usize::MAX;
            answers.storage.refuses_truncate = false;
            answers.finish().unwrap();
            prop_assert_eq!(answers.unwritten(), 0);
            prop_assert_eq!(ids_in(&answers.storage.kept), all);
        }
    }
}
