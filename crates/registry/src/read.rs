//! Get, list and watch: from the cache, without touching JSON.

use std::sync::Arc;
use std::time::Duration;

use apimachinery::status::Status;
use bytes::Bytes;

use crate::cache::{Item, Start, View};
use crate::resource::Resource;
use crate::selection::Selection;
use crate::token::Token;
use crate::{Kind, List, ListOptions, Object, Part, Registry, ResourceVersionMatch, WatchStream};

/// How long a read waits for a revision that the cache has not reached.
const FRESH_WITHIN: Duration = Duration::from_secs(3);

impl Registry {
    pub(crate) async fn read_one(
        &self,
        kind: &Arc<Kind>,
        namespace: &str,
        name: &str,
        part: Part,
    ) -> Result<Object, Status> {
        self.fresh().await?;
        let item = self.item(kind, namespace, name)?;
        match part {
            Part::Scale => self.scale_of(kind, &item).await,
            _ => kind.object(&item).await,
        }
    }

    /// The object now in the cache.
    pub(crate) fn item(&self, kind: &Kind, namespace: &str, name: &str) -> Result<Arc<Item>, Status> {
        let found = if kind.namespaced {
            kind.resource.hub.get(&kind.resource.key(namespace, name))
        } else {
            kind.resource.hub.get(name)
        };
        found.ok_or_else(|| Status::not_found(&kind.resource.name, name))
    }

    /// Waits until the cache shows all that was committed before this call. On a store of our own it always does: a
    /// writer is not answered before.
    pub(crate) async fn fresh(&self) -> Result<(), Status> {
        if !self.options.shared_store {
            return Ok(());
        }
        let head = self.store.head().await.map_err(crate::write::unavailable)?;
        self.not_older_than(head).await
    }

    async fn not_older_than(&self, revision: u64) -> Result<(), Status> {
        if self.applied.revision() >= revision {
            return Ok(());
        }
        tokio::select! {
            biased;
            reached = self.applied.reached(revision) => {
                if reached { Ok(()) } else { Err(Status::service_unavailable("the registry is shutting down")) }
            }
            () = self.options.clock.sleep(FRESH_WITHIN) => {
                let current = self.applied.revision();
                Err(Status::timeout(format!("Too large resource version: {revision}, current: {current}"), 1))
            }
        }
    }

    pub(crate) async fn read_list(
        &self,
        kind: &Arc<Kind>,
        namespace: &str,
        options: &ListOptions,
    ) -> Result<List, Status> {
        let selection = Selection::new(kind, namespace, &options.label_selector, &options.field_selector)?;
        if !options.continue_token.is_empty() {
            return self.next_page(kind, &selection, options).await;
        }
        let exact = options.resource_version_match == Some(ResourceVersionMatch::Exact);
        let (view, revision) = match parse_version(&options.resource_version)? {
            Some(revision) if exact && revision > 0 => {
                self.not_older_than(revision).await?;
                (self.view_at(&kind.resource, revision, &selection).await?, revision)
            }
            Some(0) => self.newest(&kind.resource),
            Some(revision) => {
                self.not_older_than(revision).await?;
                self.newest(&kind.resource)
            }
            None => {
                self.fresh().await?;
                self.newest(&kind.resource)
            }
        };
        self.page(kind, &selection, &Page { view, revision, after: None, seen: 0, limit: options.limit })
            .await
    }

    /// The current view and the revision that it is exact for.
    fn newest(&self, resource: &Resource) -> (Arc<View>, u64) {
        // First how far the cache is, then the view: the view shows everything up to the former, and whatever it shows
        // beyond is dated by itself.
        let applied = self.applied.revision();
        let view = resource.hub.view();
        let revision = applied.max(view.revision);
        (view, revision)
    }

    async fn next_page(
        &self,
        kind: &Arc<Kind>,
        selection: &Selection,
        options: &ListOptions,
    ) -> Result<List, Status> {
        if !options.resource_version.is_empty() && options.resource_version != "0" {
            return Err(Status::bad_request(
                "specifying resource version is not allowed when using continue",
            ));
        }
        let token = Token::read(&options.continue_token)?;
        let after = Some(format!("{}{}", selection.prefix(), token.start));
        let Some(revision) = token.revision else {
            // A token that gave up consistency: goes on in what there is now.
            self.fresh().await?;
            let (view, revision) = self.newest(&kind.resource);
            let page = Page { view, revision, after, seen: u64::MAX, limit: options.limit };
            return self.page(kind, selection, &page).await;
        };
        let view = self.view_at(&kind.resource, revision, selection).await.map_err(|status| {
            let go_on = Token { revision: None, start: token.start.clone(), seen: 0 };
            if status.code == 410 { crate::token::expired(&go_on) } else { status }
        })?;
        let page = Page { view, revision, after, seen: token.seen, limit: options.limit };
        self.page(kind, selection, &page).await
    }

    /// The resource as of a past revision: remembered, or read from the store's history.
    async fn view_at(
        &self,
        resource: &Resource,
        revision: u64,
        selection: &Selection,
    ) -> Result<Arc<View>, Status> {
        let now = self.options.clock.monotonic();
        if let Some(view) = resource.hub.at(revision, self.applied.revision(), now) {
            return Ok(view);
        }
        let prefix = Bytes::from(format!("{}{}", resource.prefix, selection.prefix()));
        let range = store::Range { prefix, at: Some(revision), ..store::Range::default() };
        let page = self.store.range(range).await.map_err(|error| match error {
            store::Error::Compacted { oldest, .. } => Status::expired(format!(
                "The resourceVersion for the provided list is too old: {revision} ({oldest})"
            )),
            other => crate::write::unavailable(other),
        })?;
        let items = page.entries.iter().filter_map(|entry| resource.parse(entry));
        Ok(Arc::new(View::of(items, revision)))
    }

    async fn page(&self, kind: &Arc<Kind>, selection: &Selection, page: &Page) -> Result<List, Status> {
        let view = &page.view;
        let limit = usize::try_from(page.limit).ok().filter(|limit| *limit > 0).unwrap_or(usize::MAX);
        let mut found: Vec<&Arc<Item>> = Vec::with_capacity(limit.min(view.items.len()).min(1024));
        let mut more = false;
        for item in view.select(selection, page.after.as_deref()) {
            if found.len() == limit {
                more = true;
                break;
            }
            found.push(item);
        }
        let items = kind.bodies(&found).await?;
        let mut list = List {
            head: kind.list_head.clone(),
            item_head: kind.head.clone(),
            items_with_type: kind.custom,
            items,
            revision: page.revision,
            continue_token: None,
            remaining: None,
        };
        if let Some(last) = found.last().filter(|_| more) {
            let seen = page.seen.saturating_add(list.items.len() as u64);
            let start = last.key.strip_prefix(selection.prefix()).unwrap_or(&last.key).to_owned();
            list.continue_token = Some(Token { revision: Some(page.revision), start, seen }.write());
            let known = selection.is_everything() && page.seen != u64::MAX;
            list.remaining = known.then(|| view.count(selection.prefix()).saturating_sub(seen));
            kind.resource.hub.keep(view.clone(), self.options.clock.monotonic());
        }
        Ok(list)
    }

    pub(crate) async fn begin_watch(
        &self,
        kind: &Arc<Kind>,
        namespace: &str,
        options: &ListOptions,
    ) -> Result<WatchStream, Status> {
        let labels = &options.label_selector;
        let selection = Arc::new(Selection::new(kind, namespace, labels, &options.field_selector)?);
        let version = parse_version(&options.resource_version)?.filter(|version| *version > 0);
        let (start, after) = match version {
            None => {
                self.fresh().await?;
                (Start::Initial, 0)
            }
            Some(revision) if options.send_initial_events => {
                self.not_older_than(revision).await?;
                (Start::Initial, 0)
            }
            Some(revision) => (Start::After(revision), revision),
        };
        let applied = self.applied.revision();
        let begun = kind.resource.hub.watch(selection, start, options.allow_bookmarks, applied);
        let begun = begun
            .map_err(|oldest| Status::expired(format!("too old resource version: {after} ({oldest})")))?;
        Ok(WatchStream::new(
            kind.clone(),
            begun,
            options.send_initial_events && options.allow_bookmarks,
            after,
        ))
    }
}

/// What a page of a list is taken from.
struct Page {
    view: Arc<View>,
    revision: u64,
    after: Option<String>,
    /// How many objects earlier pages showed; `u64::MAX` if that is not known.
    seen: u64,
    limit: u64,
}

/// A resourceVersion of a query: `None` if it is not given.
fn parse_version(text: &str) -> Result<Option<u64>, Status> {
    if text.is_empty() {
        return Ok(None);
    }
    let parsed = text.parse().map_err(|_| {
        Status::bad_request(format!(
            "invalid resource version: resourceVersion: Invalid value: {text:?}: strconv.ParseUint: parsing {text:?}: invalid syntax"
        ))
    });
    parsed.map(Some)
}
