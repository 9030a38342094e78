//! The page allocator against a model of it: no page leaks, none has two owners, and counts are exact.

use std::collections::BTreeMap;

use firecrest_engine::ErrorCode;
use firecrest_engine::kv::{BlockTables, CacheSize, KvCache, KvFormat, KvGroup, PAGE_LEN, PageId, PagePool, Sizing, pages_for};
use proptest::prelude::*;

fn group(window: Option<u32>, pages: u32) -> KvGroup {
    KvGroup { layers: vec![0], window, kv_heads: 2, head_dim: 8, format: KvFormat::F16, pages }
}

/// What is done to a pool; numbers choose among the pages that are held.
#[derive(Clone, Debug)]
enum PoolCall {
    Allocate,
    Retain(usize),
    Release(usize),
}

fn pool_call() -> impl Strategy<Value = PoolCall> {
    prop_oneof![
        3 => Just(PoolCall::Allocate),
        1 => any::<usize>().prop_map(PoolCall::Retain),
        3 => any::<usize>().prop_map(PoolCall::Release),
    ]
}

/// What is done to a cache; the first number chooses a sequence.
#[derive(Clone, Debug)]
enum CacheCall {
    /// Rows that then are computed, or (false) never are.
    Extend(usize, u32, bool),
    Release(usize),
}

fn cache_call() -> impl Strategy<Value = CacheCall> {
    prop_oneof![
        8 => (0..6usize, 1..70u32, prop::bool::weighted(0.8)).prop_map(|(s, n, computed)| CacheCall::Extend(s, n, computed)),
        1 => (0..6usize).prop_map(CacheCall::Release),
    ]
}

proptest! {
    #[test]
    fn pool_counts_holders(size in 0..20u32, calls in prop::collection::vec(pool_call(), 0..200)) {
        let mut pool = PagePool::new(size);
        let mut held: BTreeMap<PageId, u32> = BTreeMap::new();
        for call in calls {
            let pick = |n: usize| held.keys().nth(n % held.len().max(1)).copied();
            match call {
                PoolCall::Allocate => match pool.allocate() {
                    Some(page) => prop_assert_eq!(held.insert(page, 1), None, "a page was handed out twice"),
                    None => prop_assert_eq!(held.len() as u32, size, "refused while pages were free"),
                },
                PoolCall::Retain(n) => if let Some(page) = pick(n) {
                    pool.retain(page);
                    *held.entry(page).or_default() += 1;
                },
                PoolCall::Release(n) => if let Some(page) = pick(n) {
                    pool.release(page);
                    let left = held.entry(page).or_default();
                    *left -= 1;
                    if *left == 0 {
                        held.remove(&page);
                    }
                },
            }
            prop_assert_eq!(pool.used(), held.len() as u32);
            prop_assert_eq!(pool.free() + pool.used(), size);
            for (page, holders) in &held {
                prop_assert_eq!(pool.references(*page), *holders);
            }
        }
    }

    #[test]
    fn cache_gives_each_page_one_owner(
        windows in prop::collection::vec(prop::option::of(1..50u32), 1..4),
        sizes in prop::collection::vec(1..16u32, 3),
        calls in prop::collection::vec(cache_call(), 0..120),
    ) {
        let groups: Vec<KvGroup> = windows.iter().zip(&sizes).map(|(w, n)| group(*w, *n)).collect();
        let mut cache = KvCache::new(&groups);
        let mut sequences: Vec<(BlockTables, u32)> = (0..6).map(|_| (cache.tables(), 0)).collect();
        for call in calls {
            match call {
                CacheCall::Extend(s, rows, computed) => {
                    let (tables, length) = &mut sequences[s];
                    let granted = cache.extend(tables, *length, rows);
                    prop_assert!(granted <= rows);
                    // Every position a granted row writes or sees has a page, in every group.
                    for (table, window) in tables.iter().zip(&windows) {
                        let first = window.map_or(0, |w| (*length + 1).saturating_sub(w));
                        for position in first..*length + granted {
                            prop_assert_ne!(table[position as usize / PAGE_LEN], PageId::NONE);
                        }
                    }
                    // Refused rows were refused because some group had no page for the next one.
                    if granted < rows {
                        let next = (*length + granted) as usize / PAGE_LEN;
                        let short = tables.iter().zip(cache.pools()).any(|(table, pool)| next >= table.len() && pool.free() == 0);
                        prop_assert!(short, "rows were refused while pages were free");
                    }
                    // Asking again changes nothing.
                    let counts: Vec<u32> = cache.pools().map(PagePool::free).collect();
                    let (tables, length) = &mut sequences[s];
                    prop_assert_eq!(cache.extend(tables, *length, rows), granted);
                    prop_assert_eq!(cache.pools().map(PagePool::free).collect::<Vec<_>>(), counts);
                    if computed {
                        *length += granted;
                        cache.release_unseen(tables, *length);
                    }
                }
                CacheCall::Release(s) => {
                    let (tables, length) = &mut sequences[s];
                    cache.release(tables);
                    *length = 0;
                }
            }
            for (g, pool) in cache.pools().enumerate() {
                let mut owned: Vec<PageId> = sequences.iter()
                    .flat_map(|(tables, _)| tables.iter().nth(g).unwrap_or_default().to_vec())
                    .filter(|&page| page != PageId::NONE)
                    .collect();
                let all = owned.len();
                owned.sort_unstable();
                owned.dedup();
                prop_assert_eq!(owned.len(), all, "a page stands in two tables");
                prop_assert_eq!(pool.used() as usize, all, "pages leak or are counted wrongly");
            }
            // A window group holds no page that nothing sees.
            for (tables, length) in &sequences {
                for (table, window) in tables.iter().zip(&windows) {
                    let Some(window) = window else { continue };
                    let unseen = (*length + 1).saturating_sub(*window) as usize / PAGE_LEN;
                    prop_assert!(table.iter().take(unseen).all(|&page| page == PageId::NONE));
                }
            }
        }
        for (tables, _) in &mut sequences {
            cache.release(tables);
        }
        prop_assert_eq!(cache.used_pages(), 0);
    }

    /// However small the cache, a lone sequence of the context it promises fits, in steps of any size; and bytes stay within what was said.
    #[test]
    fn a_lone_sequence_of_the_promised_context_fits(
        windows in prop::collection::vec(prop::option::of(1..200u32), 1..4),
        context in 1..400u32,
        sequences in 1..5u32,
        step_rows in 1..100u32,
        positions in 1..900u64,
        in_bytes in any::<bool>(),
    ) {
        let mut groups: Vec<KvGroup> = windows.iter().map(|w| group(*w, 0)).collect();
        let bytes = positions * 64;
        let size = if in_bytes { CacheSize::Bytes(bytes) } else { CacheSize::Positions(positions) };
        let sizing = Sizing { context, sequences, step_rows };
        let context = match sizing.apply(&mut groups, size) {
            Ok(context) => context,
            Err(error) => {
                prop_assert_eq!(error.code(), ErrorCode::Memory);
                prop_assert!(in_bytes && bytes < groups.iter().map(KvGroup::page_bytes).sum::<u64>());
                return Ok(());
            }
        };
        prop_assert!(context >= 1 && context <= sizing.context);
        let total: u64 = groups.iter().map(|g| u64::from(g.pages) * g.page_bytes()).sum();
        prop_assert!(!in_bytes || total <= bytes);
        let mut cache = KvCache::new(&groups);
        prop_assert!(cache.has_room(context, step_rows, std::iter::empty(), std::iter::empty()));
        let mut tables = cache.tables();
        let mut length = 0;
        while length < context {
            let granted = cache.extend(&mut tables, length, step_rows.min(context - length));
            prop_assert!(granted > 0, "stuck at {length} of {context}");
            length += granted;
        }
    }
}

#[test]
fn automatic_size_holds_every_sequence_and_no_more() {
    let mut groups = vec![group(None, 0), group(Some(32), 0)];
    let context = Sizing { context: 100, sequences: 4, step_rows: 16 }.apply(&mut groups, CacheSize::Auto).unwrap();
    assert_eq!(context, 100);
    assert_eq!(u64::from(groups[0].pages), 4 * pages_for(100));
    // A row sees 32 positions, in at most 3 pages; a step adds one page.
    assert_eq!(groups[1].pages, 4 * 3 + 1);
}

#[test]
fn automatic_size_is_bounded() {
    let mut groups = vec![KvGroup { layers: (0..32).collect(), window: None, kv_heads: 8, head_dim: 128, format: KvFormat::F16, pages: 0 }];
    let context = Sizing { context: 131_072, sequences: 16, step_rows: 512 }.apply(&mut groups, CacheSize::Auto).unwrap();
    let bytes = u64::from(groups[0].pages) * groups[0].page_bytes();
    assert!(bytes <= CacheSize::AUTO_BYTES && bytes > CacheSize::AUTO_BYTES - groups[0].page_bytes());
    assert_eq!(context, groups[0].pages * PAGE_LEN as u32);
}

#[test]
fn no_room_for_a_page_is_an_error() {
    let error = Sizing { context: 100, sequences: 1, step_rows: 8 }.apply(&mut [group(None, 0)], CacheSize::Bytes(1023)).unwrap_err();
    assert_eq!(error.code(), ErrorCode::Memory);
    assert!(error.message().contains("1024 bytes"), "{error}");
}

#[test]
fn codes_make_room_for_nearly_twice_the_positions() {
    let pages = |format| {
        let mut groups = vec![KvGroup { layers: (0..32).collect(), window: None, kv_heads: 8, head_dim: 64, format, pages: 0 }];
        let sizing = Sizing { context: 1 << 20, sequences: 16, step_rows: 512 };
        sizing.apply(&mut groups, CacheSize::Bytes(64 << 20)).expect("there is room");
        assert!(u64::from(groups[0].pages) * groups[0].page_bytes() <= 64 << 20, "{format}");
        groups[0].pages
    };
    // 64 codes and a scale of two bytes beside 64 values of two bytes.
    assert_eq!(pages(KvFormat::F16), 64);
    assert_eq!(pages(KvFormat::Int8), 64 * 128 / 66);
}
