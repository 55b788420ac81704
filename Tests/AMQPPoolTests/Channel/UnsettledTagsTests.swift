import Testing

@testable import AMQPPool

@Suite("Acknowledgements of several deliveries")
struct UnsettledTagsTests {
    private typealias Acknowledgement = UnsettledTags.Acknowledgement

    private func tags(_ delivered: ClosedRange<UInt64>) -> UnsettledTags {
        var tags = UnsettledTags()
        for tag in delivered { tags.delivered(tag) }
        return tags
    }

    @Test("The first that are not settled have one frame, the others one each")
    func first() {
        var tags = tags(1...10)
        #expect(tags.acknowledged([1, 2, 3]) == [Acknowledgement(tag: 3, multiple: true)])
        #expect(tags.acknowledged([6, 7]) == [Acknowledgement(tag: 6), Acknowledgement(tag: 7)])
        #expect(
            tags.acknowledged([5, 4, 9]) == [Acknowledgement(tag: 5, multiple: true), Acknowledgement(tag: 9)],
            "6 and 7 were acknowledged before, and 8 is not"
        )
        #expect(tags.acknowledged([8]) == [Acknowledgement(tag: 8)])
        tags.delivered(11)
        #expect(tags.acknowledged([10, 11]) == [Acknowledgement(tag: 11, multiple: true)])
    }

    @Test("One that is rejected, or waits, is never covered; one that was settled before is passed")
    func rejected() {
        var tags = tags(1...6)
        tags.settled(2)
        #expect(tags.acknowledged([3, 4]) == [Acknowledgement(tag: 3), Acknowledgement(tag: 4)], "1 waits")
        #expect(tags.acknowledged([1, 5]) == [Acknowledgement(tag: 5, multiple: true)])
        tags.settled(6)
        tags.delivered(7)
        #expect(tags.acknowledged([7]) == [Acknowledgement(tag: 7)])
    }

    @Test(
        "Where others may be unsettled on the channel, each has a frame of its own",
        arguments: [[2, 3], [1, 3, 4]]
    )
    func unknown(_ delivered: [UInt64]) {
        var tags = UnsettledTags()
        for tag in delivered { tags.delivered(tag) }
        #expect(tags.acknowledged(delivered) == delivered.map { Acknowledgement(tag: $0) })
    }

    @Test("One that waits for ever does not have it remember all that come behind")
    func bounded() {
        var tags = UnsettledTags()
        tags.delivered(1)
        for tag in 2...UInt64(UnsettledTags.limit + 1) {
            tags.delivered(tag)
            tags.settled(tag)
        }
        #expect(tags.acknowledged([1]) == [Acknowledgement(tag: 1)])
    }

    @Test(
        "Whatever is settled in whatever order and company, each delivery is acknowledged once, and nothing else is",
        arguments: 0..<50
    )
    func random(_ seed: UInt64) {
        var random = SeededGenerator(seed: seed)
        var tags = UnsettledTags()
        var waiting: Set<UInt64> = []
        /// What the broker has not heard of.
        var unheard: Set<UInt64> = []
        var last: UInt64 = 0
        for _ in 0..<500 {
            switch Int.random(in: 0..<4, using: &random) {
            case 0, 1:
                last += 1
                tags.delivered(last)
                waiting.insert(last)
                unheard.insert(last)
            case 2:
                guard let tag = waiting.randomElement(using: &random) else { continue }
                waiting.remove(tag)
                unheard.remove(tag)
                tags.settled(tag)
            default:
                let some = waiting.sorted().prefix(Int.random(in: 0...10, using: &random)).filter { _ in
                    Bool.random(using: &random)
                }
                waiting.subtract(some)
                for acknowledgement in tags.acknowledged(some) {
                    #expect(
                        unheard.contains(acknowledgement.tag),
                        "a broker closes the channel for one that it does not know"
                    )
                    unheard = unheard.filter {
                        acknowledgement.multiple ? $0 > acknowledgement.tag : $0 != acknowledgement.tag
                    }
                }
                #expect(unheard == waiting)
            }
        }
    }

    @Test("Acknowledgements that are written together take one frame; what is between them stays in its place")
    func combined() {
        var tags = tags(1...9)
        var entries: [ChannelOutbox.Entry] = [
            acknowledge(2), acknowledge(1), .reject(deliveryTag: 4, requeue: false), acknowledge(3), acknowledge(5),
            acknowledge(7), .giveBack(deliveryTag: 6), acknowledge(8),
        ]
        #expect(tags.combineAcknowledgements(&entries) == 2)
        #expect(
            entries.map { "\($0)" }
                == [
                    acknowledge(2, multiple: true), .reject(deliveryTag: 4, requeue: false),
                    acknowledge(5, multiple: true), acknowledge(7), .giveBack(deliveryTag: 6), acknowledge(8),
                ].map { "\($0)" }
        )
        var rest = [acknowledge(9)]
        #expect(tags.combineAcknowledgements(&rest) == 0)
        #expect("\(rest)" == "\([acknowledge(9)])")
    }

    @Test("An acknowledgement of several deliveries by their user counts for all of them", arguments: [3, 0])
    func multiple(tag: UInt64) {
        var tags = tags(1...3)
        var entries = [acknowledge(tag, multiple: true)]
        #expect(tags.combineAcknowledgements(&entries) == 0)
        tags.delivered(4)
        tags.delivered(5)
        entries = [acknowledge(4), acknowledge(5)]
        #expect(tags.combineAcknowledgements(&entries) == 1)
        #expect("\(entries)" == "\([acknowledge(5, multiple: true)])")
    }

    @Test("Whatever is written in whatever order, the broker hears of each settlement once", arguments: 0..<200)
    func randomEntries(_ seed: UInt64) {
        var random = SeededGenerator(seed: seed)
        var tags = UnsettledTags()
        var waiting: Set<UInt64> = []
        var unheard: Set<UInt64> = []
        var last: UInt64 = 0
        for _ in 0..<100 {
            for _ in 0..<Int.random(in: 0...6, using: &random) {
                last += 1
                tags.delivered(last)
                waiting.insert(last)
                unheard.insert(last)
            }
            var entries: [ChannelOutbox.Entry] = []
            for _ in 0..<Int.random(in: 0...8, using: &random) {
                // Mostly the first, as handlers that run side by side do.
                guard let tag = waiting.sorted().prefix(3).randomElement(using: &random) else { break }
                waiting.remove(tag)
                switch Int.random(in: 0..<8, using: &random) {
                case 0: entries.append(.reject(deliveryTag: tag, requeue: true))
                case 1: entries.append(.giveBack(deliveryTag: tag))
                default: entries.append(acknowledge(tag))
                }
            }
            let count = entries.count
            #expect(tags.combineAcknowledgements(&entries) == count - entries.count)
            for entry in entries {
                switch entry {
                case .acknowledge(let tag, let multiple):
                    #expect(unheard.contains(tag), "a broker closes the channel for one that it does not know")
                    unheard = unheard.filter { multiple ? $0 > tag : $0 != tag }
                case .reject(let tag, _), .giveBack(let tag): #expect(unheard.remove(tag) != nil)
                case .publish: Issue.record("nobody has published")
                }
            }
            #expect(unheard == waiting)
        }
    }

    private func acknowledge(_ tag: UInt64, multiple: Bool = false) -> ChannelOutbox.Entry {
        .acknowledge(deliveryTag: tag, multiple: multiple)
    }
}
