//! One group's pages and who holds them.

use super::PageId;

/// A fixed number of pages, each free or held by one or more block tables.
///
/// Misuse (releasing a free page) panics: going on would hand one sequence's page to another.
#[derive(Clone, Debug)]
pub struct PagePool {
    /// Holders of each page; 0 is free.
    references: Vec<u32>,
    /// Free pages. Taken from the end, so that the page let go last, likeliest still in a cache, is used first.
    free: Vec<PageId>,
}

impl PagePool {
    /// A pool of `pages` free pages.
    pub fn new(pages: u32) -> PagePool {
        PagePool { references: vec![0; pages as usize], free: (0..pages).rev().map(PageId).collect() }
    }

    /// A free page, now held once; `None` where there is none.
    pub fn allocate(&mut self) -> Option<PageId> {
        let page = self.free.pop()?;
        self.references[page.0 as usize] = 1;
        Some(page)
    }

    /// Another holder of a page that is held already.
    pub fn retain(&mut self, page: PageId) {
        let references = &mut self.references[page.0 as usize];
        assert!(*references > 0, "page {} was shared while free", page.0);
        *references += 1;
    }

    /// One holder less; the last makes the page free.
    pub fn release(&mut self, page: PageId) {
        let references = &mut self.references[page.0 as usize];
        assert!(*references > 0, "page {} was released while free", page.0);
        *references -= 1;
        if *references == 0 {
            self.free.push(page);
        }
    }

    /// How many hold a page.
    pub fn references(&self, page: PageId) -> u32 {
        self.references[page.0 as usize]
    }

    /// Pages nobody holds.
    pub fn free(&self) -> u32 {
        self.free.len() as u32
    }

    /// Pages somebody holds.
    pub fn used(&self) -> u32 {
        self.len() - self.free()
    }

    /// All pages.
    pub fn len(&self) -> u32 {
        self.references.len() as u32
    }

    /// Whether there are no pages at all.
    pub fn is_empty(&self) -> bool {
        self.references.is_empty()
    }
}
