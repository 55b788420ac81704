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
}
