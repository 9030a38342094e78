use std::sync::mpsc;
use std::thread;

use super::*;

/// A host whose time passes as soon as somebody waits for it, but for [`PATIENCE`], which never does.
struct Hurried {
    now: Rc<Cell<Duration>>,
    offloaded: Cell<usize>,
}

impl Elsewhere for Hurried {
    fn offload(&self, _: &str, work: Task) -> Result<(), Full> {
        self.offloaded.set(self.offloaded.get() + 1);
        thread::spawn(work);
        Ok(())
    }

    fn sleep(&self, duration: Duration) -> Pin<Box<dyn Future<Output = ()>>> {
        let now = Rc::clone(&self.now);
        Box::pin(async move {
            if duration == PATIENCE {
                std::future::pending::<()>().await;
            }
            now.set(now.get() + duration);
        })
    }

    fn now(&self) -> Duration {
        self.now.get()
    }
}

#[test]
fn who_waits_for_work_without_an_end_is_released() {
    let host = Rc::new(Hurried { now: Rc::default(), offloaded: Cell::new(0) });
    let aside = Aside { host: Rc::clone(&host) as Rc<dyn Elsewhere>, key: "k".into(), left: Rc::new(Cell::new(Duration::from_secs(10))) };
    let (end, ends) = mpsc::channel::<()>();
    let (told, is_over) = mpsc::channel();
    let work = move || {
        let _ = ends.recv();
        let _ = told.send(());
    };
    let error = pollster::block_on(aside.run(SHORT + 1, work)).expect_err("it takes too long");
    assert_eq!((error.kind, error.status(), error.should_retry), (ErrorKind::InvalidRequest, 400, Some(false)));
    assert!(error.message.contains("takes too long"), "{}", error.message);
    // Whatever else the same request asks for is not begun; what is done in place needs nobody.
    assert!(pollster::block_on(aside.clone().run(NEVER_SHORT, || ())).is_err());
    assert_eq!((host.offloaded.get(), pollster::block_on(aside.run(SHORT, || 7)).ok()), (1, Some(7)));
    // It ends some time, and nobody hears of it.
    end.send(()).expect("it still runs");
    is_over.recv().expect("it ends");
    // Another request's work is done.
    let other = Aside { left: Rc::new(Cell::new(PATIENCE)), ..aside };
    assert_eq!(pollster::block_on(other.run(SHORT + 1, || 8)).ok(), Some(8));
}
