//! The file as a tree of values that remember their place.
//!
//! A [`Section`] hands out its values by key and knows at the end which keys nobody asked for.
//! Whatever is wrong goes to [`Problems`], and reading goes on, so that the operator sees
//! everything at once.

use std::cell::RefCell;
use std::ops::{Range, RangeInclusive};

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::error::Place;
use crate::fault::Fault;
use crate::suggest;

/// A value and the bytes of the file that it came from.
#[derive(Debug, Clone)]
pub(crate) struct At<T> {
    pub(crate) value: T,
    pub(crate) at: Range<usize>,
}

impl<T> At<T> {
    pub(crate) fn map<U>(self, change: impl FnOnce(T) -> U) -> At<U> {
        At { value: change(self.value), at: self.at }
    }
}

/// What is wrong so far.
#[derive(Debug, Default)]
pub(crate) struct Problems(RefCell<Vec<(Fault, Option<Place>)>>);

impl Problems {
    /// Notes a fault and where it is.
    pub(crate) fn note(&self, at: &Range<usize>, fault: Fault) {
        self.0.borrow_mut().push((fault, Some(Place { at: at.clone(), see: None })));
    }

    /// Notes a fault between two places of the file.
    pub(crate) fn note_both(
        &self,
        at: &Range<usize>,
        see: (&Range<usize>, &'static str),
        fault: Fault,
    ) {
        let see = Some((see.0.clone(), see.1));
        self.0.borrow_mut().push((fault, Some(Place { at: at.clone(), see })));
    }

    pub(crate) fn count(&self) -> usize {
        self.0.borrow().len()
    }

    pub(crate) fn into_list(self) -> Vec<(Fault, Option<Place>)> {
        self.0.into_inner()
    }
}

/// One table of the file.
pub(crate) struct Section<'t> {
    /// How people call it: "`[wan]`".
    title: String,
    /// Its keys; absent when the file does not have the table.
    table: Option<&'t DeTable<'t>>,
    /// The header.
    pub(crate) at: Range<usize>,
    asked: Vec<&'static str>,
    pub(crate) problems: &'t Problems,
}

impl<'t> Section<'t> {
    /// The whole file.
    pub(crate) fn root(table: &'t DeTable<'t>, problems: &'t Problems) -> Self {
        Section {
            title: "the file".to_owned(),
            table: Some(table),
            at: 0..0,
            asked: Vec::new(),
            problems,
        }
    }

    /// Reports the keys that nobody asked for.
    pub(crate) fn finish(self) {
        let Some(table) = self.table else { return };
        for key in table.keys() {
            let name: &str = key.get_ref();
            if self.asked.contains(&name) {
                continue;
            }
            let remedy = suggest::key(name, &self.asked);
            let fault =
                Fault::UnknownKey { key: name.to_owned(), section: self.title.clone(), remedy };
            self.problems.note(&key.span(), fault);
        }
    }

    /// Whether the file has `key`; it counts as asked for.
    pub(crate) fn place_of(&mut self, key: &'static str) -> Option<Range<usize>> {
        self.take(key).map(Spanned::span)
    }

    /// The text at `key`, read by `parse`; `None` when absent or reported.
    pub(crate) fn text<T>(
        &mut self,
        key: &'static str,
        parse: impl FnOnce(&str) -> Result<T, Fault>,
    ) -> Option<At<T>> {
        self.text_like(key, "…", parse)
    }

    /// Like [`text`](Self::text), and its absence is reported with an example of the line.
    pub(crate) fn required<T>(
        &mut self,
        key: &'static str,
        example: &str,
        parse: impl FnOnce(&str) -> Result<T, Fault>,
    ) -> Option<At<T>> {
        self.require(key, &format!("{key} = \"{example}\""))?;
        self.text_like(key, example, parse)
    }

    /// Reports when `key` is absent.
    pub(crate) fn require(&mut self, key: &'static str, example: &str) -> Option<()> {
        if self.take(key).is_some() {
            return Some(());
        }
        let fault =
            Fault::MissingKey { section: self.title.clone(), key, example: example.to_owned() };
        self.problems.note(&self.at, fault);
        None
    }

    /// The texts in the list at `key`, each read by `parse`; empty when absent. A text alone is
    /// refused.
    pub(crate) fn list<T>(
        &mut self,
        key: &'static str,
        max: usize,
        parse: impl Fn(&str) -> Result<T, Fault>,
    ) -> Vec<At<T>> {
        let Some(value) = self.take(key) else { return Vec::new() };
        let Some(items) = value.get_ref().as_array() else {
            self.wrong_kind(key, value, "a list of texts", format!("{key} = [\"…\"]"));
            return Vec::new();
        };
        if items.len() > max {
            self.problems.note(&value.span(), Fault::TooMany { key: key.to_owned(), max });
        }
        let mut read = Vec::new();
        for item in items.iter().take(max) {
            match item.get_ref().as_str() {
                Some(text) => read.extend(self.parsed(text, item.span(), &parse)),
                None => {
                    self.wrong_kind(key, item, "a list of texts", format!("{key} = [\"…\"]"));
                }
            }
        }
        read
    }

    /// The texts at `key`, one alone or a list of them, each read by `parse`; empty when absent. An
    /// empty list is refused: it would read as "none" and mean "all".
    pub(crate) fn texts<T>(
        &mut self,
        key: &'static str,
        max: usize,
        parse: impl Fn(&str) -> Result<T, Fault>,
    ) -> Vec<At<T>> {
        let Some(value) = self.take(key) else { return Vec::new() };
        match value.get_ref().as_array() {
            Some(items) if items.is_empty() => {
                self.problems.note(&value.span(), Fault::EmptyList { key: key.to_owned() });
                Vec::new()
            }
            Some(_) => self.list(key, max, parse),
            None => self.text(key, parse).into_iter().collect(),
        }
    }

    /// Like [`texts`](Self::texts), and a whole number counts as its digits.
    pub(crate) fn words<T>(
        &mut self,
        key: &'static str,
        max: usize,
        parse: impl Fn(&str) -> Result<T, Fault>,
    ) -> Vec<At<T>> {
        let Some(value) = self.take(key) else { return Vec::new() };
        let one = std::slice::from_ref(value);
        let items = value.get_ref().as_array().map_or(one, |items| &items[..]);
        if items.is_empty() {
            self.problems.note(&value.span(), Fault::EmptyList { key: key.to_owned() });
        }
        if items.len() > max {
            self.problems.note(&value.span(), Fault::TooMany { key: key.to_owned(), max });
        }
        let mut read = Vec::new();
        for item in items.iter().take(max) {
            match item.get_ref() {
                DeValue::String(text) => read.extend(self.parsed(text, item.span(), &parse)),
                DeValue::Integer(digits) if digits.radix() == 10 => {
                    read.extend(self.parsed(digits.as_str(), item.span(), &parse));
                }
                _ => {
                    let expected = "a number, a text or a list of them";
                    self.wrong_kind(key, item, expected, format!("{key} = [80, \"1000-1999\"]"));
                }
            }
        }
        read
    }

    /// Every key as a name read by `name`, with the list of texts that it holds, each read by
    /// `parse`; none when the file does not have the table.
    pub(crate) fn named_lists<N, T>(
        self,
        max: usize,
        entries_max: usize,
        name: impl Fn(&str) -> Result<N, Fault>,
        parse: impl Fn(&str) -> Result<T, Fault>,
    ) -> Vec<(At<N>, Vec<At<T>>)> {
        let mut lists = Vec::new();
        let Some(table) = self.table else { return lists };
        if table.len() > max {
            let key = self.title.trim_matches(['`', '[', ']']).to_owned();
            self.problems.note(&self.at, Fault::TooMany { key, max });
        }
        for (key, value) in table.iter().take(max) {
            let text: &str = key.get_ref();
            let read = self.parsed(text, key.span(), &name);
            let Some(items) = value.get_ref().as_array() else {
                self.wrong_kind(text, value, "a list of texts", format!("{text} = [\"…\"]"));
                continue;
            };
            if items.is_empty() {
                self.problems.note(&value.span(), Fault::EmptyList { key: text.to_owned() });
            }
            if items.len() > entries_max {
                let fault = Fault::TooMany { key: text.to_owned(), max: entries_max };
                self.problems.note(&value.span(), fault);
            }
            let mut entries = Vec::new();
            for item in items.iter().take(entries_max) {
                match item.get_ref().as_str() {
                    Some(entry) => entries.extend(self.parsed(entry, item.span(), &parse)),
                    None => {
                        let example = format!("{text} = [\"…\"]");
                        self.wrong_kind(text, item, "a list of texts", example);
                    }
                }
            }
            lists.extend(read.map(|name| (name, entries)));
        }
        lists
    }

    /// One of `words` at `key`.
    pub(crate) fn choice<T: Copy>(
        &mut self,
        key: &'static str,
        all: &[T],
        word: impl Fn(T) -> &'static str,
    ) -> Option<At<T>> {
        self.text(key, |text| choose(key, text, all, word))
    }

    /// `true` or `false` at `key`.
    pub(crate) fn flag(&mut self, key: &'static str) -> Option<At<bool>> {
        let value = self.take(key)?;
        let flag = value.get_ref().as_bool();
        if flag.is_none() {
            self.wrong_kind(key, value, "`true` or `false`", format!("{key} = true"));
        }
        Some(At { value: flag?, at: value.span() })
    }

    /// A whole number at `key` within `range`, whose reason is `why`.
    pub(crate) fn number(
        &mut self,
        key: &'static str,
        range: RangeInclusive<u64>,
        why: &'static str,
    ) -> Option<At<u64>> {
        let value = self.take(key)?;
        let Some(digits) = value.get_ref().as_integer() else {
            self.wrong_kind(key, value, "a whole number", format!("{key} = {}", range.start()));
            return None;
        };
        let number = u64::from_str_radix(digits.as_str(), digits.radix()).ok();
        match number.filter(|number| range.contains(number)) {
            Some(number) => Some(At { value: number, at: value.span() }),
            None => {
                let [min, max] =
                    [range.start(), range.end()].map(|end| i64::try_from(*end).unwrap_or(i64::MAX));
                let fault = Fault::OutOfRange { key: key.to_owned(), min, max, why };
                self.problems.note(&value.span(), fault);
                None
            }
        }
    }

    /// Like [`number`](Self::number) for numbers of 16 bits.
    pub(crate) fn number_u16(
        &mut self,
        key: &'static str,
        range: RangeInclusive<u16>,
        why: &'static str,
    ) -> Option<At<u16>> {
        let range = u64::from(*range.start())..=u64::from(*range.end());
        self.number(key, range, why)
            .and_then(|At { value, at }| u16::try_from(value).ok().map(|value| At { value, at }))
    }

    /// Like [`number`](Self::number) for numbers that may be negative.
    pub(crate) fn number_i16(
        &mut self,
        key: &'static str,
        range: RangeInclusive<i16>,
        why: &'static str,
    ) -> Option<At<i16>> {
        let value = self.take(key)?;
        let Some(digits) = value.get_ref().as_integer() else {
            self.wrong_kind(key, value, "a whole number", format!("{key} = 0"));
            return None;
        };
        let number = i16::from_str_radix(digits.as_str(), digits.radix()).ok();
        let Some(number) = number.filter(|number| range.contains(number)) else {
            let (min, max) = (i64::from(*range.start()), i64::from(*range.end()));
            let fault = Fault::OutOfRange { key: key.to_owned(), min, max, why };
            self.problems.note(&value.span(), fault);
            return None;
        };
        Some(At { value: number, at: value.span() })
    }

    /// What `key` holds, for keys that take several kinds of value.
    pub(crate) fn kind_of(&mut self, key: &'static str) -> Option<&'t DeValue<'t>> {
        self.take(key).map(Spanned::get_ref)
    }

    /// The table at `key`; without keys when the file does not have it.
    pub(crate) fn section(&mut self, key: &'static str) -> Section<'t> {
        let title = self.title_of(key, ["[", "]"]);
        let found = self.take(key).and_then(|value| {
            let table = value.get_ref().as_table();
            if table.is_none() {
                let header = format!("{} above its keys", title.trim_matches('`'));
                self.wrong_kind(key, value, "a table", header);
            }
            table.map(|table| (table, value.span()))
        });
        let (table, at) = match found {
            Some((table, at)) => (Some(table), at),
            None => (None, self.at.clone()),
        };
        Section { title, table, at, asked: Vec::new(), problems: self.problems }
    }

    /// The table at `key` if the file has it.
    pub(crate) fn section_if_present(&mut self, key: &'static str) -> Option<Section<'t>> {
        let section = self.section(key);
        section.table.is_some().then_some(section)
    }

    /// The tables of the list at `key`; none when absent.
    pub(crate) fn sections(&mut self, key: &'static str, max: usize) -> Vec<Section<'t>> {
        let Some(value) = self.take(key) else { return Vec::new() };
        let title = self.title_of(key, ["[[", "]]"]);
        let header = format!("{} above its keys", title.trim_matches('`'));
        let Some(items) = value.get_ref().as_array() else {
            self.wrong_kind(key, value, "a list of tables", header);
            return Vec::new();
        };
        if let Some(beyond) = items.get(max) {
            self.problems.note(&beyond.span(), Fault::TooMany { key: key.to_owned(), max });
        }
        let mut sections = Vec::new();
        for item in items.iter().take(max) {
            let Some(table) = item.get_ref().as_table() else {
                self.wrong_kind(key, item, "a list of tables", header.clone());
                continue;
            };
            sections.push(Section {
                title: title.clone(),
                table: Some(table),
                at: item.span(),
                asked: Vec::new(),
                problems: self.problems,
            });
        }
        sections
    }

    fn take(&mut self, key: &'static str) -> Option<&'t Spanned<DeValue<'t>>> {
        if !self.asked.contains(&key) {
            self.asked.push(key);
        }
        self.table?.get(key)
    }

    fn text_like<T>(
        &mut self,
        key: &'static str,
        example: &str,
        parse: impl FnOnce(&str) -> Result<T, Fault>,
    ) -> Option<At<T>> {
        let value = self.take(key)?;
        let Some(text) = value.get_ref().as_str() else {
            self.wrong_kind(key, value, "a text", format!("{key} = \"{example}\""));
            return None;
        };
        self.parsed(text, value.span(), parse)
    }

    fn parsed<T>(
        &self,
        text: &str,
        at: Range<usize>,
        parse: impl FnOnce(&str) -> Result<T, Fault>,
    ) -> Option<At<T>> {
        match parse(text) {
            Ok(value) => Some(At { value, at }),
            Err(fault) => {
                self.problems.note(&at, fault);
                None
            }
        }
    }

    fn title_of(&self, key: &str, brackets: [&str; 2]) -> String {
        let inner = self.title.trim_matches(['`', '[', ']']);
        let path = if self.table_is_root() { key.to_owned() } else { format!("{inner}.{key}") };
        format!("`{}{path}{}`", brackets[0], brackets[1])
    }

    fn table_is_root(&self) -> bool {
        !self.title.starts_with('`')
    }

    pub(crate) fn wrong_kind(
        &self,
        key: &str,
        value: &Spanned<DeValue<'_>>,
        expected: &'static str,
        example: String,
    ) {
        let found = kind_name(value.get_ref());
        let fault = Fault::WrongKind { key: key.to_owned(), expected, found, example };
        self.problems.note(&value.span(), fault);
    }
}

/// The one of `all` whose word is `text`.
///
/// # Errors
/// `UnknownWord` with the nearest word, or all of them.
pub(crate) fn choose<T: Copy>(
    key: &str,
    text: &str,
    all: &[T],
    word: impl Fn(T) -> &'static str,
) -> Result<T, Fault> {
    all.iter().copied().find(|one| word(*one) == text).ok_or_else(|| {
        let words: Vec<&str> = all.iter().map(|one| word(*one)).collect();
        let remedy = suggest::word(text, &words);
        Fault::UnknownWord { given: text.to_owned(), key: key.to_owned(), remedy }
    })
}

fn kind_name(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a text",
        DeValue::Integer(_) => "a whole number",
        DeValue::Float(_) => "a number with a point",
        DeValue::Boolean(_) => "`true` or `false`",
        DeValue::Datetime(_) => "a date or time",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    }
}
