//! `Reviews`: whether the bearer of a token may read metrics, asked of the API server.

use std::collections::HashMap;
use std::future::Future;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use k8s_openapi::api::authentication::v1::{TokenReview, TokenReviewSpec, UserInfo};
use k8s_openapi::api::authorization::v1::{
    NonResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec,
};
use kube::api::PostParams;
use kube::{Api, Client};

use crate::error::{Asked, Error};

/// How long an answer is held on to.
const FRESH: Duration = Duration::from_secs(30);
/// How many are: a scraper has one token.
const REMEMBERED: usize = 64;

/// What may be done with a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Read metrics.
    Permitted,
    /// Not that: somebody known who may not.
    Forbidden,
    /// Nothing: the cluster does not know it.
    Unknown,
}

/// Who knows users and their permissions.
pub(crate) trait Authority: Send + Sync + 'static {
    /// Who has this token; `None`: nobody.
    fn user(&self, token: &str) -> impl Future<Output = Result<Option<UserInfo>, Error>> + Send;

    /// Whether this user may get `/metrics`.
    fn may_get_metrics(&self, user: UserInfo) -> impl Future<Output = Result<bool, Error>> + Send;
}

impl Authority for Client {
    async fn user(&self, token: &str) -> Result<Option<UserInfo>, Error> {
        let review = TokenReview {
            spec: TokenReviewSpec { token: token.to_owned(), audiences: None },
            ..TokenReview::default()
        };
        let reviews = Api::<TokenReview>::all(self.clone());
        let review = reviews.create(&PostParams::default(), &review).await;
        let status = review.asked(|| "create a TokenReview".to_owned())?.status.unwrap_or_default();
        Ok(status.user.filter(|_| status.authenticated == Some(true)))
    }

    async fn may_get_metrics(&self, user: UserInfo) -> Result<bool, Error> {
        let review = SubjectAccessReview {
            spec: SubjectAccessReviewSpec {
                user: user.username,
                uid: user.uid,
                groups: user.groups,
                extra: user.extra,
                non_resource_attributes: Some(NonResourceAttributes {
                    path: Some("/metrics".to_owned()),
                    verb: Some("get".to_owned()),
                }),
                resource_attributes: None,
            },
            ..SubjectAccessReview::default()
        };
        let reviews = Api::<SubjectAccessReview>::all(self.clone());
        let review = reviews.create(&PostParams::default(), &review).await;
        let review = review.asked(|| "create a SubjectAccessReview".to_owned())?;
        Ok(review.status.is_some_and(|status| status.allowed))
    }
}

/// Asks an authority, and remembers its answers for a while.
pub(crate) struct Reviews<A> {
    authority: A,
    remembered: Mutex<HashMap<String, (Verdict, Instant)>>,
}

impl<A: Authority> Reviews<A> {
    pub(crate) fn new(authority: A) -> Self {
        Self { authority, remembered: Mutex::default() }
    }

    /// What may be done with a token.
    pub(crate) async fn verdict(&self, token: &str, now: Instant) -> Result<Verdict, Error> {
        if let Some(verdict) = self.recall(token, now) {
            return Ok(verdict);
        }
        let verdict = match self.authority.user(token).await? {
            None => Verdict::Unknown,
            Some(user) => match self.authority.may_get_metrics(user).await? {
                true => Verdict::Permitted,
                false => Verdict::Forbidden,
            },
        };
        self.remember(token, verdict, now);
        Ok(verdict)
    }

    fn recall(&self, token: &str, now: Instant) -> Option<Verdict> {
        let remembered = self.remembered.lock().unwrap_or_else(PoisonError::into_inner);
        let (verdict, since) = remembered.get(token)?;
        (now.duration_since(*since) < FRESH).then_some(*verdict)
    }

    fn remember(&self, token: &str, verdict: Verdict, now: Instant) {
        let mut remembered = self.remembered.lock().unwrap_or_else(PoisonError::into_inner);
        if remembered.len() >= REMEMBERED {
            remembered.retain(|_, (_, since)| now.duration_since(*since) < FRESH);
        }
        if remembered.len() >= REMEMBERED {
            // So many different tokens are somebody's guesses.
            remembered.clear();
        }
        remembered.insert(token.to_owned(), (verdict, now));
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    /// Knows the tokens `scraper` and `stranger`, permits the first, and counts questions.
    #[derive(Default)]
    pub(crate) struct Fake {
        asked: AtomicUsize,
    }

    impl Authority for Fake {
        async fn user(&self, token: &str) -> Result<Option<UserInfo>, Error> {
            self.asked.fetch_add(1, Ordering::Relaxed);
            match token {
                "unreachable" => Err(Error::Changed { what: "a TokenReview".to_owned() }),
                "scraper" | "stranger" => {
                    let username = Some(token.to_owned());
                    Ok(Some(UserInfo { username, ..UserInfo::default() }))
                }
                _ => Ok(None),
            }
        }

        async fn may_get_metrics(&self, user: UserInfo) -> Result<bool, Error> {
            Ok(user.username.as_deref() == Some("scraper"))
        }
    }

    #[tokio::test]
    async fn who_may_get_metrics_is_permitted_and_nobody_else() {
        let (reviews, now) = (Reviews::new(Fake::default()), Instant::now());
        assert_eq!(reviews.verdict("scraper", now).await.unwrap(), Verdict::Permitted);
        assert_eq!(reviews.verdict("stranger", now).await.unwrap(), Verdict::Forbidden);
        assert_eq!(reviews.verdict("nonsense", now).await.unwrap(), Verdict::Unknown);
        assert!(reviews.verdict("unreachable", now).await.is_err());
    }

    #[tokio::test]
    async fn a_verdict_is_remembered_for_half_a_minute() {
        let (reviews, now) = (Reviews::new(Fake::default()), Instant::now());
        for (seconds, asked) in [(0, 1), (1, 1), (29, 1), (30, 2)] {
            let now = now + Duration::from_secs(seconds);
            reviews.verdict("scraper", now).await.unwrap();
            assert_eq!(reviews.authority.asked.load(Ordering::Relaxed), asked, "{seconds}");
        }
    }

    #[tokio::test]
    async fn a_failure_to_ask_is_not_remembered() {
        let (reviews, now) = (Reviews::new(Fake::default()), Instant::now());
        assert!(reviews.verdict("unreachable", now).await.is_err());
        assert_eq!(reviews.recall("unreachable", now), None);
    }

    #[tokio::test]
    async fn guessed_tokens_do_not_fill_memory() {
        let (reviews, now) = (Reviews::new(Fake::default()), Instant::now());
        for guess in 0..1000 {
            reviews.verdict(&guess.to_string(), now).await.unwrap();
        }
        assert!(reviews.remembered.lock().unwrap().len() <= REMEMBERED);
    }
}
