"""The words and sentence templates that `make_orders.py` writes its messages with."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Domain:
    """A kind of shop: its products with singular and plural, what they cost each, and how many one buys at most."""

    price: tuple[int, int]
    most: int
    adjectives: list[str]
    products: list[tuple[str, str]]


def _words(text: str) -> list[str]:
    return [" ".join(word.split()) for word in text.split(",")]


def _plural(noun: str) -> tuple[str, str]:
    """Returns a noun's two forms; `a/b` gives both, and `bag of rice` becomes `bags of rice`."""
    if "/" in noun:
        singular, _, plural = noun.partition("/")
        return singular, plural
    head, of, rest = noun.partition(" of ")
    if head.endswith("y") and head[-2] not in "aeou":
        return noun, f"{head[:-1]}ies{of}{rest}"
    return noun, head + ("es" if head.endswith(("s", "x", "ch", "sh")) else "s") + of + rest


def _domain(price: tuple[int, int], most: int, adjectives: str, products: str) -> Domain:
    return Domain(
        price, most, [word for word in _words(adjectives) if word], [_plural(noun) for noun in _words(products)]
    )


DOMAINS = [
    _domain(
        (6, 60),
        12,
        "blue, white, small, large, green, vintage",
        """mug, soup bowl, teapot, frying pan, salad spoon, cutting board, chef's knife/chef's knives, espresso cup,
        cake tin, storage jar, colander, whisk, casserole dish, wine glass, butter dish, pepper mill, rolling pin,
        tea towel, milk frother, baking tray""",
    ),
    _domain(
        (2, 14),
        30,
        "organic, ripe, fresh, Spanish, large",
        """apple, mango/mangoes, bag of basmati rice, jar of honey, bottle of olive oil, loaf of rye bread/loaves of rye
        bread, lemon, wheel of brie, avocado, box of dates, carton of oat milk, pack of tortillas, tin of sardines,
        watermelon, bunch of radishes, jar of pesto, sack of potatoes, croissant, cinnamon roll, pumpkin, goat cheese,
        bottle of cider""",
    ),
    _domain(
        (25, 900),
        8,
        "refurbished, black, white, silver, new",
        """laptop, monitor, keyboard, USB hub, webcam, phone case, headset, tablet, router, graphics card, desk fan,
        power bank, memory card, charging cable, microphone, e-reader, soundbar, docking station, projector, hard drive,
        smart plug""",
    ),
    _domain(
        (1, 22),
        30,
        "small, large, red, grey, refillable",
        """notebook, fountain pen, stapler, ink cartridge, box of paper clips, ring binder, pencil case, desk calendar,
        whiteboard marker, roll of packing tape, glue stick, envelope, ruler, highlighter, sketchbook, label printer,
        ream of paper, index card""",
    ),
    _domain(
        (40, 800),
        8,
        "grey, white, black, second-hand, modern",
        """bookshelf/bookshelves, armchair, floor lamp, bedside table, rug, dining chair, wardrobe, mirror, coat rack,
        desk, sofa, bar stool, chest of drawers, picture frame, shoe bench, curtain rail, mattress, cushion""",
    ),
    _domain(
        (3, 70),
        24,
        "small, large, sturdy, tall",
        """rose bush, watering can, tomato seedling, hosepipe, garden gnome, lavender plant, bag of compost, olive tree,
        wheelbarrow, flower pot, packet of sunflower seeds, hedge trimmer, bird feeder, rake, trowel, strawberry plant,
        rain barrel""",
    ),
    _domain(
        (8, 140),
        6,
        "navy, grey, striped, yellow, extra-large, plain",
        """raincoat, scarf/scarves, T-shirt, leather belt, winter jacket, cardigan, silk tie, sun hat, hoodie, skirt,
        evening dress, backpack, waistcoat, beanie, handbag, apron, blouse""",
    ),
    _domain(
        (4, 120),
        24,
        "heavy-duty, small, large, sturdy",
        """hammer, cordless drill, paintbrush, bag of cement, spirit level, tin of primer, hinge, door handle, wrench,
        extension cord, saw blade, sheet of plywood, padlock, dust mask, ladder, light switch, wall plug, toolbox""",
    ),
    _domain(
        (5, 60),
        10,
        "pre-owned, second-hand, colourful, brand-new",
        """puzzle, board game, atlas, cookbook, comic, kite, teddy bear, toy train, dictionary, yo-yo, detective novel,
        dollhouse, globe, chess set, playing card set, poetry anthology, model rocket""",
    ),
    _domain(
        (7, 95),
        12,
        "",
        """train ticket, concert ticket, museum pass, cinema ticket, bus pass, city tour, cooking class, ski pass,
        day at the spa/days at the spa, boat trip, swimming lesson""",
    ),
    _domain(
        (6, 260),
        12,
        "red, black, lightweight, small",
        """yoga mat, tennis racket, dumbbell, football, bike helmet, tent, sleeping bag, water bottle, skateboard,
        climbing rope, headlamp, bicycle pump, surfboard, kettlebell, hiking pole, dog leash, cat tree,
        bag of dog food, fish tank, hamster wheel""",
    ),
]

FIRST_NAMES = _words(
    """Amara, John, Alice, Mateo, Ingrid, Yusuf, Priya, Chen, Zoë, Kwame, Leila, Tomasz, Hannah, Diego, Fatima, Olek,
    Nora, Rashid, Giulia, Sven, Mei, Ibrahim, Chloé, Anders, Ruth, Omar, Siobhán, Viktor, Aisha, Paulo, Greta, Hiroshi,
    Elena, Malik, Astrid, Joaquín, Tessa, Babak, Lucía, Owen, Divya, Marek, Bridget, Emeka, Yara, Felix, Noor, Caleb,
    Ewa, Luca, Marguerite, Kofi, Annika, Rajesh, Sofia, Declan, Thandiwe, Jürgen, Isla, Bao, Camille, Stefan, Nadia,
    Håkon, Winston, Beatriz, Arjun, Clara, Moses, Petra"""
)
LAST_NAMES = _words(
    """Okafor, Smith, Lindqvist, García, Novak, Haddad, Patel, Wong, Müller, Mensah, Rossi, Kowalski, O'Brien, Silva,
    Hassan, Petrov, Nakamura, Dubois, Andersen, Murphy, Demir, Castillo, Fischer, Nguyen, Abebe, Larsen, Moreau, Kaplan,
    Torres, Jensen, Ferrari, Singh, Baker, Wójcik, Tanaka, Reyes, Osei, Vermeulen, Cohen, Schmidt, Almeida, Park,
    Bianchi, Eriksson, Hughes, Rahman, Popescu, Ivanova, Marsh, Achterberg, Quispe, Brennan, Yıldız, Sato, de Vries,
    van Dijk, Le Roux, Mbeki, Horvat, Clarke"""
)
COMPANIES = _words(
    """Birch & Vale Ltd, Café Mirador, Northwind Studio, Hotel Aurora, Lakeside Primary School, Tanaka Ceramics,
    Bluebird Logistics, St. Mary's Clinic, Delgado Bros, Ember Yoga, The Copper Kettle, Novak Dental, Riverside Library,
    Polar Films, Orchard Street Deli, Vega Architects, Brightside Nursery, Hansen Marine, Sunrise Bakery, Quill & Co,
    Harbour Theatre, Pixel Forge, Green Thumb Landscaping, Alpine Rescue Club, Meridian Labs, Fox Hollow Farm"""
)
UNITS = _words(
    """zero, one, two, three, four, five, six, seven, eight, nine, ten, eleven, twelve, thirteen, fourteen, fifteen,
    sixteen, seventeen, eighteen, nineteen"""
)
TENS = _words(", , twenty, thirty, forty, fifty, sixty, seventy, eighty, ninety")
_FIRST_ORDINALS = _words("first, second, third, fourth, fifth, sixth, seventh, eighth, ninth")
ORDINALS = [
    *_FIRST_ORDINALS,
    *_words("tenth, eleventh, twelfth, thirteenth, fourteenth, fifteenth, sixteenth, seventeenth, eighteenth"),
    "nineteenth",
    "twentieth",
    *(f"twenty-{ordinal}" for ordinal in _FIRST_ORDINALS),
    "thirtieth",
    "thirty-first",
]
MONTHS = _words("January, February, March, April, May, June, July, August, September, October, November, December")
WEEKDAYS = _words("Monday, Tuesday, Wednesday, Thursday, Friday, Saturday, Sunday")
CURRENCIES = [
    ("$", "USD", "dollars", "cents"),
    ("$", "USD", "dollars", "cents"),
    ("€", "EUR", "euros", "cents"),
    ("£", "GBP", "pounds", "pence"),
]
TYPOS = {
    "please": "pls",
    "thanks": "thx",
    "ordered": "orderd",
    "bought": "bougth",
    "received": "recieved",
    "you": "u",
    "because": "bc",
    "tomorrow": "tmrw",
    "delivery": "delivry",
    "definitely": "definately",
}

# ---- templates ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Style:
    """A way of writing, with sentences that may follow and say nothing of the answer."""

    templates: list[str]
    extras: list[str]
    unit_price: str
    joint: str = " "
    lower: bool = False


REPORTS = Style(
    templates=[
        "[{who}|A customer] <bought|purchased|picked up|took home> {items}[ on {date}][ for {total}].",
        "[On {date}, ][{who}|a walk-in customer] <ordered|bought|paid for> {items}[, {total} altogether].",
        "We <sold|shipped> {items} to [{who}|one of our regulars][ on {date}][ and took {total}].",
        "According to the till, [{who}|someone] left with {items}[ for {total}][; the receipt is dated {date}].",
        "[{date} was busy: |]{items} went to [{who}|a tourist][ at a price of {total}].",
        "[{total} came in |Money came in ][on {date} |]for {items}[, all bought by {who}|].",
        "The online shop reports a new order[ from {who}][, placed on {date}]: {items}[. Amount due: {total}].",
        "[{who} |A visitor ]came by[ on {date}] and could not resist {items}[ <at|for> {total}].",
        "[{who}'s|The] basket held {items}[, and the bill said {total}][. It was {date}].",
        "Please book the following sale[ of {date}]: {items}[, sold to {who}][, total {total}].",
        "[{who}|The buyer] finally decided[ on {date}] and got {items}[; that made {total}].",
        "For the office party[ on the books of {who}] they ordered {items}[ on {date}][, {total} in sum].",
        "[Invoice to {who}|Invoice][, {date}]. Goods: {items}.[ Payable: {total}.]",
        "It was [{who}|a phone customer] who bought {items}[ back on {date}][ and paid {total}].",
    ],
    extras=[
        "{other} served them.",
        "The order number is {id}.",
        "Delivery is planned for {later}.",
        "They paid by card and asked for a gift box.",
        "It was raining, and {number} other people stood in line.",
        "{other} will pack it, and the parcel leaves on {later}.",
        "A question about {thing} came up too, but nothing came of it.",
        "Contact: {phone}.",
        "Customer no. {id}, member for {number} months.",
    ],
    unit_price="Each was priced at {each}.",
)
LETTERS = Style(
    templates=[
        "<Hi|Hello>,[ {who} here.] I <bought|ordered> {items}[ on {date}] and would like an invoice[ over {total}].",
        "Good morning! [My name is {who} and |]I placed an order[ on {date}] for {items}[. I was charged {total}].",
        "Dear team,\n[on {date} ]I ordered {items}[ for {total}] on your site.[\nKind regards\n{who}]",
        "Hello,\nthis is what I ordered[ on {date}]:\n{list}\n[The total was {total}.\n]Many thanks[, {who}]",
        "Subject: my order[ of {date}]\n\nI took {items}[ and paid {total}]. Can you confirm?[\n\nBest wishes,\n{who}]",
        "[{who} writing. |]Just to say how pleased I am with {items}[, bought on {date}][, {total} well spent].",
        "I'm very happy with {items} that I bought from you[ on {date}][ for {total}].[ Yours, {who}]",
        "Please send me a receipt for {items}[, purchased on {date}][ with {total} on my card].[ - {who}]",
        "To whom it may concern: [the undersigned, {who}, |the undersigned ]ordered {items}[ on {date}][ at {total}].",
        "[On {date} |Recently ]you sold me {items}[, {total} all in all].[ Regards, {who}]",
        "Good evening, I would like to order {items}, please.[ Today is {date}.][ {total} is fine.][ Name: {who}]",
        "My purchase[ from {date}] was {items}[ and came to {total}]. Is there a warranty?[ Thanks, {who}]",
        "Hi there! [{who} again. |]We went for {items} in the end[, bought on {date}][. {total}, as agreed].",
    ],
    extras=[
        "My order number is {id}.",
        "You can reach me at {phone}.",
        "Please deliver before {later}.",
        "It is a present for my cousin {other}.",
        "Your colleague {other} was a great help!",
        "I live on the third floor, so please ring twice.",
        "I have been a customer for {number} years.",
        "Sorry for the trouble, and have a lovely day.",
        "Next time I may look at your {thing} as well.",
        "The tracking code is {id}, but the link does not work.",
    ],
    unit_price="I think it was {each} each.",
    joint="\nPS: ",
)
CHATS = Style(
    templates=[
        "hey[ its {who}], just bought {items}[ on {date}][, cost me {total}]",
        "yo[ {who} here] can you check my order? {short}[ / {date}][ / {total}]",
        "ordered {items}[ {date}][ paid {total}] pls confirm[ - {who}]",
        "so [{who} |my flatmate ]got {items}[ on {date}][ for {total}] lol",
        "hi i bought {short}[ on {date}][, {total} total][, name is {who}] thanks",
        "{short} please[, {total} right?][ {date}][ - {who}]",
        "[{who}: |]got {items}[, {date}][, {total} gone] no regrets",
        "ok done, order is in: {short}[ ({total})][ for {who}][, dated {date}]",
        "finally bought {items}!![ {total} tho][ ({date})][ xx {who}]",
        "can u resend the receipt for {items}[ from {date}][, was {total}][, under {who}]",
    ],
    extras=[
        "my number is {phone}",
        "order id {id} if you need it",
        "delivery by {later} would be great",
        "{other} said you would know",
        "need it because {other} moves house soon",
        "pls hurry, i definitely need it",
        "still thinking about {thing} btw",
        "no rush :)",
    ],
    unit_price="{each} each",
    joint=", ",
    lower=True,
)
NOTES = Style(
    templates=[
        "Phone order[, {date}]. [Caller: {who}. ]{short}.[ Agreed total {total}.]",
        "RECEIPT[ {date}]\n{list}\n[TOTAL {total}\n]Thank you for your visit[, {who}]!",
        "Till 3[ / {date}][ / {who}] / {short}[ / {total}]",
        "[Buyer: {who}\n]Goods: {short}\n[Sum: {total}\n][Date: {date}\n]Status: paid",
        "[{date} - ]order[ by {who}] - {short}[ - {total}]",
        "Order form\n[Name: {who}\n][Day of purchase: {date}\n]Articles:\n{list}[\nTo pay: {total}]",
        "[{date}: ]sold {short}[ to {who}][, {total} cash]",
        "Purchase order\n[Ordered by {who}\n]{list}[\nOrder date {date}][\nGrand total {total}]",
        "Voicemail[ from {who}][ on {date}]: took {items}[, {total} in the end], wants them gift-wrapped.",
        "Market stall log[, {date}]: {items}[ to {who}][, {total} in the box].",
        "[{who}\n]{list}\n[{total}\n][bought {date}\n]collected in store",
    ],
    extras=[
        "Ref. {id}",
        "Tel. {phone}",
        "Ship by {later}",
        "Clerk: {other}",
        "Table {number}",
        "Loyalty card {id}",
        "Deliver {later}, ask for {other}",
    ],
    unit_price="Unit price {each}",
    joint="\n",
)
STYLES = [REPORTS, REPORTS, LETTERS, LETTERS, CHATS, NOTES]

PARTLY_CANCELLED = [
    "[{who}|A customer] ordered {both}[ on {date}] but cancelled {gone} the next day.[ What remains comes to {total}.]",
    "Hello, I bought {both}[ on {date}]. Please take {gone} back; I keep the rest[, {total} after the refund].[ {who}]",
    "[{who}'s|This] order[ of {date}] was {both}. As {gone} went back to us, [{total} is|the rest is] final.",
    "[On {date} |Last time ]I ordered {both}, then changed my mind about {gone}. [So {total} in all. |][Thanks, {who}]",
    "Correction[ for {who}][, order of {date}]: {both}, but strike {gone}.[ New total {total}.]",
    "[{who} |The client ]bought {both}[ on {date}] and returned {gone} unopened[, so {total} stays with us].",
]
CANCELLED = [
    "[{who}|A customer] ordered {items}[ on {date}], but cancelled everything an hour later.[ We refunded {total}.]",
    "Please cancel my whole order[ of {date}]: {items}.[ I expect {total} back.][ Regards, {who}]",
    "[{who} |The buyer ]returned {items}[ bought on {date}] and got [{total}|the money] back.",
    "hi, i want to send back all of it: {short}.[ paid {total}.][ ordered {date}.][ {who}]",
    "Order {id}[ by {who}][, {date}] over {items} is void; the card was declined.[ {total} was never taken.]",
    "I sent {items} back[ on {date}], nothing fits.[ Where are my {total}?][ {who}]",
    "Cancellation confirmed[ for {who}][, {date}]: {short}.[ Refund {total}.] No goods will be shipped.",
    "[{who} |Our neighbour ]changed plans[ on {date}]: {items} in order {id} not wanted any more.[ {total} refunded.]",
    "Everything goes back, {items} included.[ Bought {date}.][ That is {total}.][ Yours, {who}]",
    "Full refund[ of {total}][ to {who}][ on {date}] for {items}. The parcel came back unopened.",
]
NO_ORDER = [
    "Hello, do you have {thing} in stock at the moment? You can call me on {phone}.[ Thanks, {who}]",
    "How much would {items} be, delivered[ by {date}]? I am only comparing prices for now.[ {who}]",
    "[{who}|A reader] asks whether the shop opens on Sundays and if {thing} can be tried before buying.",
    "[{who} |One visitor ]looked at {items} for an hour[ on {date}] and left without buying anything.",
    "Our newsletter[ of {date}] presents {thing} and {thing}[ from {total}]. Unsubscribe at any time.",
    "I forgot my password and cannot log in, ticket {id}. Could {other} help me?[ Best, {who}]",
    "Thank you for the friendly advice about {thing} last week! {other} was so patient with me.[ {who}]",
    "Staff meeting[ on {date}]: {other} reports that {number} people work on Saturday and the heating is broken.",
    "Is the job as a sales assistant still open? I know a lot about {thing}.[ Sincerely, {who}]",
    "The quote[ of {date}] for {items}[, {total},] was turned down[ by {who}]; no order follows.",
    "maybe next month i get {items} but not now, money is tight lol[ - {who}]",
    "[{who} |She ]would love {items} one day but is still saving up[ and has put aside {total}].",
    "Where is the nearest parking to your store? I come by bike with {other} and {number} children.",
    "We counted the shelves[ on {date}]: {items} left. Nothing was sold today.",
    "Dear customer, your appointment[ on {date}] to see our {thing} is confirmed. Ask for {other}, {phone}.",
    "The parcel {id} is still not here. What is going on? Please call {phone}.[ {who}]",
    "[{who} |A journalist ]writes about {thing}: a trend of the past, says {other}, {number} years in the trade.",
    "Does the guarantee for {thing} cover water damage? I found nothing about it on page {number} of the manual.",
    "Please don't process anything yet; I am still choosing between {thing} and {thing}.[ {who}]",
    "Price list[ valid from {date}]: {thing} {each}, {thing} {each}, {thing} {each}.",
    "Good afternoon, I'd like to complain about the noise at your store on {later}. {other} was rude, too.[ {who}]",
]
