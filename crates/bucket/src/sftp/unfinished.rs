//! `Unfinished`: a file on a server whose name nobody lists, until its whole content is there.

use std::mem;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use russh_sftp::protocol::FileType;
use tokio::runtime::Handle;
use tokio::time::timeout;

use super::session::{CLEAN_UP, Opened, Session};
use super::trouble::Trouble;
use crate::directory::unfinished::new_name;
use crate::error::Kind;

/// A file being written. What is dropped before it is finished is removed, if need be over the next
/// connection; what a killed process leaves behind stays.
pub(super) struct Unfinished {
    session: Arc<Session>,
    /// Where it is, as long as it has to be removed.
    path: Option<String>,
    opened: Option<Opened>,
    /// How much of it is written, in bytes.
    length: u64,
}

impl Unfinished {
    /// A new file in a directory.
    pub(super) async fn create(session: &Arc<Session>, directory: &str) -> Result<Self, Trouble> {
        let path = format!("{directory}/{}", new_name());
        let mut file =
            Self { session: session.clone(), path: Some(path.clone()), opened: None, length: 0 };
        match session.create(&path).await {
            Ok(opened) => {
                file.opened = Some(opened);
                Ok(file)
            }
            Err(trouble) => {
                // Only without an answer it may be there.
                if trouble.kind != Kind::Unreachable {
                    file.path = None;
                }
                Err(trouble)
            }
        }
    }

    fn opened(&self) -> Result<&Opened, Trouble> {
        self.opened.as_ref().ok_or_else(|| Trouble::new(Kind::Failing, "it is closed already"))
    }

    /// Adds to its end.
    pub(super) async fn write(&mut self, content: &Bytes) -> Result<(), Trouble> {
        self.session.write(self.opened()?, self.length, content).await?;
        self.length += content.len() as u64;
        Ok(())
    }

    /// Gives it its name, in place of a file that has it; or, where it is to be new, unless a file has
    /// it: `false` then. As far as the server can say, its content is on the disk when this returns;
    /// the protocol has no way to say so of the name.
    pub(super) async fn finish(&mut self, path: &str, is_new: bool) -> Result<bool, Trouble> {
        self.session.flush(self.opened()?).await?;
        if let Some(opened) = self.opened.take() {
            self.session.close(opened).await?;
        }
        let Some(unfinished) = &self.path else { return Ok(true) };
        let renamed = if is_new {
            self.session.rename_new(unfinished, path).await
        } else {
            self.session.replace(unfinished, path).await.map(|()| true)
        };
        match renamed {
            Ok(true) => {
                self.path = None;
                Ok(true)
            }
            Ok(false) => Ok(false),
            Err(trouble) => Err(match self.session.lstat(path).await {
                Ok(there) if there.file_type() == FileType::Dir => {
                    Trouble::new(Kind::Invalid, "a directory is where the file has to be")
                }
                Ok(_) | Err(_) => trouble,
            }),
        }
    }

    /// Removes it.
    pub(super) async fn abandon(&mut self) {
        if let Some(path) = self.path.take() {
            clean_up(self.session.clone(), path, self.opened.take()).await;
        }
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        let Some(path) = self.path.take() else { return };
        match Handle::try_current() {
            Ok(runtime) => {
                runtime.spawn(clean_up(self.session.clone(), path, self.opened.take()));
            }
            Err(_) => self.session.left_behind().add(path),
        }
    }
}

/// What is to be removed over the next connection.
#[derive(Debug, Default)]
pub(super) struct LeftBehind(Mutex<Vec<String>>);

impl LeftBehind {
    fn paths(&self) -> MutexGuard<'_, Vec<String>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn add(&self, path: String) {
        tracing::debug!(%path, "an unfinished file stays behind");
        self.paths().push(path);
    }

    /// Removes all of it, and waits for nothing.
    pub(super) fn remove_over(session: &Arc<Session>) {
        let paths = mem::take(&mut *session.left_behind().paths());
        for path in paths {
            tokio::spawn(clean_up(session.clone(), path, None));
        }
    }
}

async fn clean_up(session: Arc<Session>, path: String, opened: Option<Opened>) {
    let removing = async {
        if let Some(opened) = opened {
            session.close(opened).await?;
        }
        session.remove(&path).await
    };
    let removed = timeout(CLEAN_UP, removing).await;
    match removed {
        Ok(Ok(())) => {}
        Ok(Err(gone)) if gone.kind == Kind::NotFound => {}
        Ok(Err(_)) | Err(_) => session.left_behind().add(path),
    }
}
