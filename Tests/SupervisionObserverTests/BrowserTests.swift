#if Observer
import Foundation
import RPCCaller
import RPCReceiver
import Supervision
import Testing

@testable import SupervisionObserver

@Suite("The page in a browser", .enabled(if: Browser.program != nil), .serialized)
struct BrowserTests {
    private static let rows = "[...document.querySelectorAll('.row')]"

    private func row(_ key: String) -> String { "document.querySelector('.row[data-key=\"\(key)\"]')" }

    /// Nothing went wrong in the page, and nothing was asked of anybody but the observer.
    private func expectClean(_ browser: Browser, _ url: String, allowing allowed: [String] = []) async throws {
        let report = try await browser.report()
        let errors = report.errors.filter { error in !allowed.contains { error.contains($0) } }
        #expect(errors.isEmpty, "\(errors)")
        let foreign = report.urls.filter { !$0.hasPrefix(url) && !$0.hasPrefix("data:") && $0 != "about:blank" }
        #expect(foreign.isEmpty, "\(foreign)")
        #expect(report.urls.contains { $0.hasSuffix("api/stream") })
    }

    /// Opens the page of a tree, and waits for its five rows.
    private func withPage(
        _ supervisor: Supervisor = Served.tree(),
        permission: ObserverPermission = .reading,
        _ body: (Served, Browser) async throws -> Void
    ) async throws {
        try await Served.run(supervisor, permission: permission) { served in
            try await Browser.run { browser in
                try await browser.open(served.url)
                try await browser.wait("\(Self.rows).length == 5")
                try await body(served, browser)
                try await expectClean(browser, served.url)
            }
        }
    }

    @Test(
        "the tree appears, a killed process's next incarnation appears within a second, and the event is in the time line"
    )
    func killed() async throws {
        try await withPage { served, browser in
            try await browser.wait("document.querySelector('#live').classList.contains('live')")
            let worker = try served.supervisor.child("inner", "worker", as: Served.Worker.self)
            let first = try #require(worker.pid)
            try await browser.wait("\(row("app/inner/worker")).textContent.includes('\(first)')")
            first.kill()
            _ = await first.exited()
            _ = await served.supervisor.testing.settled()
            let second = try #require(worker.pid)
            let took = try await browser.wait(
                "\(row("app/inner/worker")).textContent.includes('\(second)') && \(row("app/inner/worker")).classList.contains('flash')"
            )
            // The page's own promise, which is no matter of how fast this machine is: it draws with the event.
            #expect(took < 1, "\(took) s")
            try await browser.screenshot("tree-after-kill")
            try await browser.run("\(row("app/inner/worker")).click()")
            try await browser.wait("document.querySelector('#process')?.textContent.includes('killed')")
            try await browser.wait(
                "document.querySelector('#process').textContent.includes('State report')"
            )
            try await browser.screenshot("process")
            try await browser.press("2")
            try await browser.wait(
                "[...document.querySelectorAll('#events .event')].some(e => e.textContent.includes('app/inner/worker') && e.textContent.includes('killed'))"
            )
            try await browser.screenshot("time-line")
        }
    }

    @Test("the keyboard moves, opens and closes, searches, and looks at a process")
    func keyboard() async throws {
        try await withPage { _, browser in
            try await browser.run("document.querySelector('#tree').focus()")
            for _ in 0..<2 { try await browser.press("ArrowDown") }
            try await browser.wait("\(row("app/inner")).getAttribute('aria-selected') == 'true'")
            try await browser.press("ArrowLeft")
            try await browser.wait("\(Self.rows).length == 3")
            try await browser.press("ArrowRight")
            try await browser.wait("\(Self.rows).length == 5")
            try await browser.press("Enter")
            try await browser.wait("document.querySelector('#process h2')?.textContent == 'inner'")
            try await browser.press("Escape")
            try await browser.wait("document.querySelector('#process').classList.contains('hidden')")
            try await browser.press("/")
            try await browser.wait("document.activeElement.id == 'search'")
            try await browser.type("plain")
            try await browser.wait(
                "\(Self.rows).length == 3 && \(row("app/inner/plain")).classList.contains('match')"
            )
            try await browser.screenshot("search")
            try await browser.press("Escape")
            try await browser.wait("\(Self.rows).length == 5")
        }
    }

    @Test("a process that was closed stays closed, also when an answer about it comes later")
    func closed() async throws {
        try await withPage { _, browser in
            try await browser.run("document.querySelector('#tree').focus()")
            for _ in 0..<2 { try await browser.press("ArrowDown") }
            try await browser.press("Enter")
            try await browser.wait("document.querySelector('#process h2')?.textContent == 'inner'")
            try await browser.run(
                """
                window.held = []; window.answered = 0;
                const real = window.fetch;
                window.fetch = (url, options) => String(url).includes('api/process')
                    ? new Promise(resolve => held.push(() => {
                        const answer = real(url, options);
                        answer.then(() => setTimeout(() => window.answered += 1, 200));
                        resolve(answer);
                    }))
                    : real(url, options);
                """
            )
            try await browser.press("Enter")
            try await browser.wait("held.length > 0")
            try await browser.press("Escape")
            try await browser.wait("document.querySelector('#process').classList.contains('hidden')")
            try await browser.run("held.forEach(release => release())")
            try await browser.wait("answered > 0")
            #expect(
                try await browser.value(
                    "document.querySelector('#process').classList.contains('hidden')",
                    as: Bool.self
                )
            )
        }
    }

    @Test("a press that follows another at once holds what is shown as well")
    func pressedAgain() async throws {
        try await withPage { _, browser in
            try await browser.run("document.querySelector('#tree').focus()")
            // The page is busy: it sees all of them before it has a turn for anything else.
            try await browser.run(
                """
                for (const name of ['pointerdown', 'pointerup', 'pointerdown']) dispatchEvent(new PointerEvent(name));
                window.later = false;
                setTimeout(() => setTimeout(() => window.later = true));
                """
            )
            try await browser.wait("later")
            try await browser.press("ArrowDown")
            let selected = "document.querySelectorAll('.row[aria-selected=true]').length"
            #expect(try await browser.value(selected, as: Int.self) == 0, "nothing is drawn under the second press")
            try await browser.run("dispatchEvent(new PointerEvent('pointerup'))")
            try await browser.wait("\(selected) == 1")
        }
    }

    @Test("what is being clicked on or selected stays until that is over, however much happens")
    func steady() async throws {
        try await withPage { served, browser in
            // The page is drawn again several times meanwhile.
            try await browser.click(".row[data-key='app/inner/worker'] .label", hold: 1.5)
            try await browser.wait("document.querySelector('#process h2')?.textContent == 'worker'")
            try await browser.click(".row[data-key='app/inner'] .label", count: 2)
            try await browser.wait("\(Self.rows).length == 3")
            try await browser.click(".row[data-key='app/inner'] .twist", hold: 0.7)
            try await browser.wait("\(Self.rows).length == 5")
            try await browser.click(".row[data-key='app/inner/worker'] .label")
            try await browser.wait("document.querySelector('#process h2')?.textContent == 'worker'")
            try await browser.drag(over: "#process .path")
            try await browser.wait("getSelection().toString().includes('inner/worker')")
            let worker = try served.supervisor.child("inner", "worker", as: Served.Worker.self)
            let first = try #require(worker.pid)
            first.kill()
            _ = await first.exited()
            _ = await served.supervisor.testing.settled()
            let second = try #require(worker.pid)
            try await browser.wait("\(row("app/inner/worker")).textContent.includes('\(second)')")
            #expect(try await browser.value("getSelection().toString().includes('inner/worker')", as: Bool.self))
            #expect(
                try await browser.value(
                    "document.querySelector('#process').textContent.includes('\(second)')",
                    as: Bool.self
                )
                    == false
            )
            try await browser.run("getSelection().removeAllRanges()")
            try await browser.wait("document.querySelector('#process').textContent.includes('\(second)')")
        }
    }

    @Test("an action without the token is refused, with it a process is killed, and the page says so")
    func actions() async throws {
        try await Served.run(permission: .actions(Served.token)) { served in
            try await Browser.run { browser in
                try await browser.open(served.url)
                try await browser.wait("\(Self.rows).length == 5")
                let worker = try served.supervisor.child("inner", "worker", as: Served.Worker.self)
                let first = try #require(worker.pid)
                let status: Int = try await browser.value(
                    """
                    fetch('api/action', {method: 'POST', headers: {'Content-Type': 'application/json'},
                        body: JSON.stringify({action: 'kill', tree: 0, key: 'app/inner/worker'})}).then(a => a.status)
                    """
                )
                #expect(status == 401)
                #expect(first.isAlive)
                try await browser.run("\(row("app/inner/worker")).click()")
                try await browser.wait("document.querySelector('#process h2')?.textContent == 'worker'")
                #expect(
                    try await browser.value("document.querySelectorAll('#process .danger').length", as: Int.self) == 0
                )
                func unlock(_ token: String) async throws {
                    try await browser.run("document.querySelector('#unlock').click()")
                    try await browser.wait("document.querySelector('#token-dialog').open")
                    try await browser.run(
                        "document.querySelector('#token').value = '\(token)'; document.querySelector('#token-dialog [value=ok]').click()"
                    )
                    try await browser.wait("document.querySelector('#process .danger')")
                }
                func kill() async throws {
                    try await browser.run("document.querySelector('#process .danger').click()")
                    try await browser.wait("document.querySelector('#process .danger.sure')")
                    try await browser.run("document.querySelector('#process .danger.sure').click()")
                    try await browser.wait("!document.querySelector('#toast').classList.contains('hidden')")
                }
                try await unlock("wrong-wrong-wrong")
                try await kill()
                try await browser.wait("document.querySelector('#toast').textContent.includes('token')")
                #expect(worker.pid == first)
                try await unlock(Served.token)
                try await kill()
                try await browser.wait("document.querySelector('#toast').textContent.includes('killed')")
                try await browser.wait(
                    "\(row("app/inner/worker")).textContent.includes('<0.') && !\(row("app/inner/worker")).textContent.includes('\(first)')"
                )
                #expect(!first.isAlive)
                try await browser.screenshot("actions")
                #expect(
                    try await browser.value(
                        "document.documentElement.outerHTML.includes('\(Served.token)')",
                        as: Bool.self
                    ) == false
                )
                try await expectClean(browser, served.url, allowing: ["401"])
            }
        }
    }

    @Test("ten thousand processes stay usable: only what is on screen is there, and searching and scrolling answer")
    func many() async throws {
        let supervisor = Served.tree()
        try await Served.run(supervisor) { served in
            let sessions = try supervisor.dynamicSupervisor("sessions")
            for _ in 0..<10_000 {
                let _: Pid? = try await sessions.startChild(Child("session") { _ in Served.Plain() })
            }
            try await Browser.run { browser in
                try await browser.open(served.url)
                try await browser.wait("document.querySelector('#stats')?.textContent.includes('10,005')")
                try await browser.wait("\(row("app/sessions"))?.textContent.includes('10,000')")
                try await browser.screenshot("many-closed")
                try await browser.run("\(row("app/sessions")).querySelector('.twist').click()")
                try await browser.wait("document.querySelector('#tree').getAttribute('aria-rowcount') == '10005'")
                #expect(try await browser.value("\(Self.rows).length", as: Int.self) < 100)
                try await browser.run("document.querySelector('#tree').scrollTop = 5000 * 28")
                try await browser.wait("\(Self.rows).some(r => Number(r.getAttribute('aria-rowindex')) > 4995)")
                try await browser.screenshot("many-open")
                try await browser.run(
                    "const s = document.querySelector('#search'); s.value = '#7777'; s.dispatchEvent(new Event('input'))"
                )
                let took = try await browser.wait("\(Self.rows).some(r => r.textContent.includes('session#7777'))")
                #expect(took < 10)
                #expect(try await browser.value("document.querySelectorAll('*').length", as: Int.self) < 3000)
                try await expectClean(browser, served.url)
            }
        }
    }

    @Test("when the observer goes the page says that it is stale, and when it is back the page is live again")
    func reconnects() async throws {
        let supervisor = Served.tree()
        try await supervisor.start()
        try await Browser.run { browser in
            var configuration = ObserverConfiguration()
            configuration.port = 0
            let first = Observer(trees: [supervisor], configuration: configuration, logger: Served.quiet)
            let running = Task { try await first.run() }
            let url = try #require(await first.url())
            try await browser.open(url)
            try await browser.wait("document.querySelector('#live').classList.contains('live')")
            running.cancel()
            _ = await running.result
            try await browser.wait("document.querySelector('#live').textContent.includes('stale')")
            try await browser.screenshot("stale")
            configuration.port = try ObserverClient(url: url).port
            let second = Observer(trees: [supervisor], configuration: configuration, logger: Served.quiet)
            let again = Task { try await second.run() }
            try await browser.wait("document.querySelector('#live').classList.contains('live')")
            try await browser.wait("\(Self.rows).length == 5")
            again.cancel()
            _ = await again.result
        }
        await supervisor.stop()
    }

    @Test("a cooldown counts down, and how close a supervisor is to giving up is shown")
    func cooldown() async throws {
        let supervisor = Supervisor("app", intensity: .init(5, within: .seconds(600)), logger: Served.quiet) {
            Supervisor("orders", intensity: .init(3, within: .seconds(600)), whenExceeded: .cooldown(.seconds(600))) {
                Child("writer") { _ in Served.Plain() }
                Child("reader") { _ in Served.Plain() }
            }
            Child("mailer") { _ in Served.Plain() }
        }
        try await withPage(supervisor) { _, browser in
            for name in ["writer", "reader", "writer"] {
                try supervisor.child("orders", name, as: Served.Plain.self).pid?.kill()
                _ = await supervisor.testing.settled()
            }
            // One more than the intensity allows.
            try supervisor.child("orders", "writer", as: Served.Plain.self).pid?.kill()
            try await browser.wait("\(row("app/orders/writer")).textContent.includes('cooling down')")
            let countdown = "Number(\(row("app/orders/writer")).textContent.match(/starts in ([0-9.]+)/)?.[1])"
            let before: Double = try await browser.value(countdown)
            try await browser.wait("\(countdown) < \(before)")
            try await browser.run("\(row("app/orders")).click()")
            try await browser.wait("document.querySelector('#process')?.textContent.includes('3 of 3 restarts')")
            try await browser.screenshot("cooldown")
        }
    }

    @Test("calls are shown with their rates, and the page is readable in the dark and on a phone")
    func calls() async throws {
        let (caller, receiver) = RPCPair.make(
            RPCHandlers {
                RPCHandler("add") { (numbers: [Int], _) in numbers.reduce(0, +) }
                RPCHandler("fail") { (text: String, _) -> Int in throw RPCFailure(code: "mine", message: text) }
            }
        )
        try await Served.run(callers: [caller], receivers: [receiver]) { served in
            try await Browser.run { browser in
                try await browser.open(served.url, dark: true)
                try await browser.wait("document.documentElement.dataset.theme == 'dark'")
                try await browser.wait("document.querySelector('#live').classList.contains('live')")
                while !caller.observation.isWatched { await Task.yield() }
                let load = Task {
                    while !Task.isCancelled {
                        _ = try? await caller.call("math", "add", [4, 9], as: Int.self)
                        _ = try? await caller.call("math", "fail", "no", as: Int.self)
                        try? await Task.sleep(for: .milliseconds(5))
                    }
                }
                try await browser.press("3")
                try await browser.wait("document.querySelector('#cards')?.textContent.includes('math/add')")
                try await browser.wait(
                    "[...document.querySelectorAll('#cards .num')].some(n => /[0-9] ms|µs/.test(n.textContent))"
                )
                try await browser.screenshot("rpc-dark")
                try await browser.press("4")
                try await browser.wait("document.querySelector('#cards')?.textContent.includes('caller')")
                try await browser.open(nil, width: 390, height: 844)
                try await browser.press("1")
                try await browser.wait("\(Self.rows).length > 0")
                #expect(try await browser.value("document.documentElement.scrollWidth <= 390", as: Bool.self))
                try await browser.screenshot("phone-tree")
                try await browser.press("3")
                try await browser.wait("document.querySelector('#cards')?.textContent.includes('math/add')")
                try await browser.screenshot("phone-rpc")
                load.cancel()
                await load.value
                try await expectClean(browser, served.url)
            }
        }
    }
}
#endif
