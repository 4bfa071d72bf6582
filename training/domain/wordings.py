# ruff: noqa: E501 - a pattern is read as one line
"""How callers say it: patterns by intent. `{day}`, `{time}`, `{number}` are slots; brackets hold alternatives.

A wording is one sentence of a pattern, slots left open. Which split it is in depends on its words alone; wordings of
one or two words ("yes", "opening hours") are common property and always for training.
"""

import functools
from random import Random

from training.domain.paraphrases import PARAPHRASES
from training.grammar import count, every, expand
from training.splits import Split, split_of

_WANT = "[i want to|i would like to|i'd like to|i need to|can i|could i|may i]"
_TELL = "[can you tell me|could you tell me|please tell me|tell me|do you know|i want to know|i would like to know|i need to know|may i ask]"
_PARCEL = "[parcel|package|delivery|shipment|packet]"
_PICKUP = "[pick up|pickup|collection]"
_SIZES = {"small": "[small|little]", "medium": "[medium|medium sized|middle sized]", "large": "[large|big|larger]"}


def _price(size: str) -> list[str]:
    return [
        f"how much [is|does|for|would be] a {size} {_PARCEL} [cost|]",
        f"how much does [a|one|my] {size} [{_PARCEL}|one] cost",
        f"what [is the price of|does|would] a {size} [{_PARCEL}|one] [cost|]",
        f"what do you [charge|ask|take] for a {size} {_PARCEL}",
        f"[the price of|the price for|price for] a {size} {_PARCEL}",
        f"{_TELL} the price [of|for] a {size} [{_PARCEL}|one]",
        f"{_TELL} how much a {size} [{_PARCEL}|one] [costs|is]",
        f"[what about|how about|and|and what about|and how much is] a {size} [one|{_PARCEL}]",
        f"{_WANT} [send|ship|mail] a {size} {_PARCEL} [how much is it|what does it cost|what is the price|how much is that]",
        f"[what|how much] [will|would] it cost to [send|ship] a {size} {_PARCEL}",
        f"how [expensive|much] is a {size} [{_PARCEL}|one]",
        f"my {_PARCEL} is {size} how much [is it|is that|do i pay|does it cost]",
        f"i have a {size} {_PARCEL} [how much is it|what does it cost|what do i pay|how much will it cost]",
    ]


_PLAIN: dict[str, list[str]] = {
    "greet": [
        "[hello|hi|hey|good morning|good afternoon|good evening|good day]",
        "[hello|hi|hey] [there|again|mira|harbour parcel|to you|everyone]",
        "[hello|hi|hey|good morning|good afternoon] [is anyone there|is anybody there|can you hear me|can anyone hear me|are you there|anybody home]",
        "[is anyone there|is anybody there|can you hear me|are you there|do you hear me|anyone there]",
        "[hello|hi] [good morning|good afternoon|good evening|hello]",
        "[hello|hi|good morning] is this [harbour parcel|the parcel service|the right number]",
        "[hello|hi] [i need help|i need some help|can you help me|could you help me|i have a question]",
        "[i need help|i need some help|can you help me|could you help me|could you help me please|i have a question|i have a quick question]",
        "greetings [mira|to you|]",
    ],
    "hours": [
        "what are your [opening|business|working|office|] [hours|times]",
        "what [opening|business|] hours do you have",
        "when [are you|is the shop|is the office|is your office|is your shop|is the store] open",
        "when do you [open|close|open and close]",
        "[at what time|what time] do you [open|close|open and close|start|shut]",
        "[until when|until what time|how long|how late|from when] are you open [today|]",
        "[what time|when] does [the shop|the office|your shop|your office|the store] [open|close|shut]",
        f"{_TELL} [your|the] [opening hours|opening times|business hours|hours]",
        f"{_TELL} when you [are open|open|close]",
        f"{_TELL} [what time|until when|how long] you are open",
        "are you [open|still open|open now|open today|open right now|closed now|closed already]",
        "[when|what time] can i [come|come by|visit|visit you|drop by|come in|bring my parcel|bring it]",
        "[your opening hours|opening hours|opening times|the opening hours|business hours]",
        "which days are you open",
        "[on which|on what|what] days [are you open|do you open|can i come]",
        "[i am calling about|i have a question about|i wanted to ask about|i am asking for] your opening [hours|times]",
        "how [early|late] do you [open|close]",
        "when [would|will] you be open",
        "are you open [every day|all week|in the morning|in the evening|at night|all day]",
        "give me your opening [hours|times]",
    ],
    "hours_day": [
        "are you [open|closed] [on|this|next] {day}",
        "what are your [opening|business|] [hours|times] [on|for] {day}",
        "[what time|when|at what time] do you [open|close|shut|start] on {day}",
        "[until when|until what time|how long|how late|from when] are you open [on|this] {day}",
        "[when|what time] are you open on {day}",
        "[is|will] [the shop|the office|your shop|your office] [be|] open on {day}",
        "do you [open|work|close] on {day}",
        f"{_TELL} [your hours|the opening hours|your opening times|the hours] [on|for] {{day}}",
        f"{_TELL} [when|what time] you [open|close|are open] on {{day}}",
        f"{_TELL} if you are [open|closed] on {{day}}",
        "[what about|how about|and|and what about|and on] {day}",
        "[can i|could i] [come|come by|visit|come in|drop by|bring my parcel] on {day}",
        "[when|what time] can i [come|come by|visit|drop by|come in] on {day}",
        "[on|this] {day} [when are you open|what time do you open|when do you close|are you open|what are your hours]",
        "is [anyone|anybody|someone] there on {day}",
        "will you be [open|there|closed] [on|this|next] {day}",
        "i [want|need|would like] to come on {day} [are you open|is that possible|when are you open]",
        "{day} [opening hours|hours|are you open]",
    ],
    "hours_weekend": [
        "are you [open|closed] [at|on|over] the weekend",
        "what are your [opening|] hours [at|on] the weekend",
        "do you [open|work] [at|on] [the weekend|weekends]",
        "[what about|how about|and] the weekend",
        "when are you open [at|on] the weekend",
        "[can i|could i] come [at|on] the weekend",
    ],
    "address": [
        "what is your [address|street address|location]",
        "what is the address [of the shop|of your office|of your shop|there|please|]",
        "where [are you|is your office|is your shop|is the shop|is the office|is the store|is harbour parcel|is the company]",
        "where [are you|is your office|is your shop|is the shop] located",
        "where [can i|do i] find you",
        "[how do i|how can i|how do you] [get to you|find you|get there|reach your office|reach your shop]",
        f"{_TELL} [your|the] [address|location|street]",
        f"{_TELL} where [you are|your office is|your shop is|to find you|the shop is|you are located]",
        "[your address|the address|address please|your address please|what address]",
        "[which|what] [street|road] are you [on|in]",
        "[in|on] [which|what] street [are you|is your office|is your shop|is the shop]",
        "where [do i|can i|should i|must i] [bring|take|drop off|hand in|collect] [my|the|a] parcel",
        "where [do i|should i] [come|go|come to]",
        "[can i have|could i have|may i have|can i get|give me|i need|could you give me|can you give me] [your|the] address",
        "[i am looking for|i cannot find|i can't find] your [office|shop|address]",
        "where exactly are you",
        "what is the [name of your street|street and number|house number]",
    ],
    "price_small": _price(_SIZES["small"]),
    "price_medium": _price(_SIZES["medium"]),
    "price_large": _price(_SIZES["large"]),
    "price_all": [
        "what are your [prices|rates|charges|fees]",
        f"how much [is|does|for] a {_PARCEL} [cost|]",
        f"how much does it cost to [send|ship|mail] [a|one] {_PARCEL}",
        f"what does [a|one|sending a|shipping a] {_PARCEL} cost",
        f"{_TELL} [your|the] [prices|rates|price list]",
        f"{_TELL} [what|how much] a {_PARCEL} costs",
        f"what is the price [of|for] a {_PARCEL}",
        "how [expensive|much] is [it|shipping|sending a parcel|that]",
        "[what does it cost|what do i have to pay|how much do i pay|what is the price|your prices|prices please]",
        f"how much do you [charge|take|ask] [for a {_PARCEL}|]",
        f"{_WANT} [send|ship|mail] a {_PARCEL} [how much is it|what does it cost|what is the price]",
        "[what do your parcels cost|what do the parcels cost|how much are parcels|what are the prices for parcels]",
        "[i have a question about|i am calling about|i wanted to ask about] [the|your] prices",
    ],
    "number": [
        "my [parcel|package|tracking|parcel's|order|] number is {number}",
        "the [parcel|package|tracking|] number is {number}",
        "[it is|it's|that is|that's|this is] {number}",
        "[it is|it's|that is] number {number}",
        "[parcel|package|parcel number|package number|number|tracking number|the number] {number}",
        "[i have|i've got|i got] [parcel|package|the number|number|parcel number] {number}",
        "where is [my|] [parcel|package|parcel number|package number|number] {number}",
        "[i am calling about|i'm calling about|it is about|i have a question about|i am waiting for|i am asking about] [parcel|package|number|parcel number] {number}",
        "[can you|could you|please] [check|find|look up|track|look for] [parcel|package|number|parcel number] {number}",
        "[when will|when does] [parcel|package|number|parcel number] {number} [arrive|come]",
        "[sure|yes|okay|of course|yeah|so|well] [it is|it's|the number is|my number is|that is|that would be] {number}",
        "[sure|yes|okay|of course|yeah|so|well] {number}",
        "{number} [is my number|is the number|is my parcel number|please|thank you|that is my number]",
        "[has|did] [parcel|package|number|parcel number] {number} [been delivered|arrive|arrived]",
        "[please write down|write down|please note|take down|note] [the number|number|] {number}",
        "[no it is|no it's|no the number is|sorry it is|no i said|i said|actually it is|no my number is] {number}",
    ],
    "parcel": [
        f"where is my {_PARCEL}",
        f"[when will|when does|when is] my {_PARCEL} [arrive|arriving|come|coming|be here|be delivered]",
        f"[has my|did my|is my] {_PARCEL} [been delivered|arrive|arrived|there|been shipped|on its way|come|lost]",
        f"{_WANT} [track|check|ask about|find|look for|trace] [my|a] {_PARCEL}",
        f"[i am calling about|i'm calling about|i have a question about|it is about|i am waiting for|i'm waiting for] [my|a] {_PARCEL}",
        f"my {_PARCEL} [did not arrive|has not arrived|is late|is missing|never came|is lost|has not come|is not here|did not come]",
        f"[can you|could you|please] [check|find|track|look up|look for] my {_PARCEL}",
        f"what [happened to|is happening with|is the status of|about] my {_PARCEL}",
        f"i have not [received|got|seen] my {_PARCEL} [yet|]",
        f"{_TELL} [where my parcel is|when my parcel arrives|when my parcel comes|the status of my parcel]",
        f"i [am expecting|expected|ordered|should get] a {_PARCEL}",
        f"there is a problem with my {_PARCEL}",
        f"is there [a|any] {_PARCEL} for me",
        f"{_WANT} [give you|tell you] my [parcel|package] number",
    ],
    "yes": [
        "[yes|yeah|yep|yup|correct|right|exactly|sure|okay|ok|of course|absolutely|certainly|indeed|perfect]",
        "[yes|yeah] [please|sure|correct|right|exactly|of course|it is|that's it|yes|perfect]",
        "[yes|yeah|okay|] [that is|that's|this is|it is|it's] [correct|right|it|fine|true|perfect]",
        "[yes|yeah] [that is|that's] [absolutely|exactly|completely] [right|correct]",
        "[yes|] that [is|sounds] right",
        "[yes|] [you have it|you got it|you are right|i confirm|that is the number|that is my number]",
        "[exactly|correct|right] [that is|that's] [it|right|the number]",
        "[yes|] thank you that is [right|correct]",
    ],
    "no": [
        "[no|nope|wrong|incorrect|not really|not quite|not at all|no no]",
        "[no|] [that is|that's|this is|it is|it's] [wrong|not right|not correct|incorrect|false|not it]",
        "[no|] [that is|that's] not [my|the|the right] number",
        "no [sorry|thanks|thank you|not quite|not really|it is not|it isn't|you are wrong|wrong number]",
        "[no|] i [do not|don't] think so",
        "[no|] you [got it wrong|have it wrong|made a mistake|misheard|did not understand me|misunderstood]",
        "[no|] there is a mistake",
        "[no|] the number is [wrong|not right|not correct]",
    ],
    "recall": [
        "[what|which] number [did i give|did i give you|did i say|did i tell you|was it|was that|do you have|have you got|have you noted|did you note|did you write down]",
        "what was [the|my] [parcel|package|] number [again|]",
        "[what is|what's] [the|my] [parcel|package|] number [again|that i gave you|i gave you|i told you]",
        "[can you|could you|please] [repeat|tell me|read back|say|read me] [the|my] [parcel|package|] number [again|back|once more|]",
        f"{_TELL} [which|what] number [i gave you|you have|it was|i told you|you noted]",
        "[do you remember|do you still have|do you still know|have you still got] [the|my] [parcel|package|] number",
        "[which|what] [parcel|package] [was it|number was it|did i ask about|did i mention|was that]",
        "[remind me of|read back|repeat|say] [the|my] [parcel|package|] number [please|again|]",
        "i forgot [the|my] [parcel|package|] number [what was it|can you tell me|]",
        "what did i say [the|my] number was",
        "so [which|what] number [do you have|was it|is it]",
        "what is the number you [have|wrote down|noted]",
        "[did you get|did you understand|did you note] [the|my] number [what is it|which one is it|what was it]",
    ],
    "book": [
        f"{_WANT} [book|schedule|arrange|order|have|get] [a|] {_PICKUP} [on|for] {{day}} at {{time}}",
        f"[please|can you|could you|] [book|schedule|arrange] [a|my] {_PICKUP} [on|for] {{day}} at {{time}}",
        f"[i need|i want|i would like|i'd like] a {_PICKUP} [on|for] {{day}} at {{time}}",
        f"[can you|could you|please] [pick up|collect|come and collect|fetch|come and get] [my|a|the] {_PARCEL} [on|] {{day}} at {{time}}",
        "[can|could|will] [you|someone|the driver|your driver] [come|come by|come over|be here|be there] [on|] {day} at {time}",
        "[on|] {day} at {time} [please|would be good|is fine|would be great|works|would be perfect|is good for me|suits me|]",
        "[let's say|let us say|make it|how about|what about|is|say|i would say|maybe] {day} at {time} [possible|okay|]",
        f"[book me|put me down|sign me up] [for|] [a {_PICKUP}|] [on|for] {{day}} at {{time}}",
        f"{_PICKUP} [on|] {{day}} at {{time}} [please|]",
        f"{_WANT} have [my|a] {_PARCEL} [picked up|collected|fetched] [on|] {{day}} at {{time}}",
        "[come|please come] [on|] {day} at {time}",
        f"is a {_PICKUP} [possible|free] on {{day}} at {{time}}",
        "[the driver can come|you can come|come to my house|i am at home|i will be home] [on|] {day} at {time}",
        "at {time} on {day} [please|would be good|]",
        f"{_WANT} book [a|] {_PICKUP} at {{time}} on {{day}}",
    ],
    "book_day": [
        f"{_WANT} [book|schedule|arrange|order|have] [a|] {_PICKUP} [on|for] {{day}}",
        f"[please|can you|could you|] [book|schedule|arrange] [a|my] {_PICKUP} [on|for] {{day}}",
        f"[i need|i want|i would like|i'd like] a {_PICKUP} [on|for] {{day}}",
        f"[can you|could you|please] [pick up|collect|come and collect|fetch] [my|a|the] {_PARCEL} [on|] {{day}}",
        "[can|could] [you|someone|the driver|your driver] [come|come by|pick it up|collect it] [on|] {day}",
        f"is a {_PICKUP} [possible|free] on {{day}}",
        f"{_WANT} have [my|a] {_PARCEL} [picked up|collected] [on|] {{day}}",
        f"do you have a {_PICKUP} free on {{day}}",
    ],
    "book_open": [
        f"{_WANT} [book|schedule|arrange|order|make|have] [a|] {_PICKUP}",
        f"[please|can you|could you|] [book|schedule|arrange] [a|my] {_PICKUP} [for me|]",
        f"[i need|i want|i would like|i'd like] a {_PICKUP}",
        f"[can you|could you|please] [pick up|collect|come and collect|fetch|come and get] [my|a|the] {_PARCEL}",
        f"{_WANT} have [my|a] {_PARCEL} [picked up|collected|fetched]",
        f"[can|could] [someone|somebody|the driver|your driver] [pick up|collect|come for|fetch] [my|a|the] {_PARCEL}",
        "do you [pick up|collect|fetch] [parcels|packages] [at home|from home|from my house|]",
        f"[i am calling|i'm calling] to [book|arrange|schedule] a {_PICKUP}",
        f"how [do i|can i] [book|arrange|schedule|order] a {_PICKUP}",
    ],
    "book_time": [
        "[at|] {time} [please|would be good|is fine|would be great|works|is good|suits me|]",
        "[let's say|make it|how about|maybe|say|i would say|around|about] {time}",
        "[can you|could you] [come|be here|do it] at {time}",
        "[the best time is|my time is|it should be|i prefer|best would be] {time}",
    ],
    "change": [
        f"{_WANT} [change|move|reschedule|shift|switch] [my|the] {_PICKUP} to {{day}} at {{time}}",
        f"[please|can you|could you|] [change|move|reschedule|shift] [my|the] {_PICKUP} to {{day}} at {{time}}",
        "[can|could] we [change|move|make|switch] it [to|] {day} at {time} [instead|]",
        "[change|move|switch] it to {day} at {time} [please|instead|]",
        f"i [need|have|want] to [move|change|postpone] [my|the] {_PICKUP} to {{day}} at {{time}}",
        f"[make|can you make|could you make] [my|the] {_PICKUP} {{day}} at {{time}} instead",
        "[rather|better|i would rather have|i prefer|i would prefer] {day} at {time} [instead|]",
        f"[not today|that does not work|i cannot make it|that day is bad] [please move|can you move|move] [my|the] {_PICKUP} to {{day}} at {{time}}",
    ],
    "change_open": [
        f"{_WANT} [change|move|reschedule|shift|postpone] [my|the|a] {_PICKUP}",
        f"[please|can you|could you|] [change|move|reschedule|postpone] [my|the] {_PICKUP}",
        f"i [need|have|want] [another|a different|a new] [time|day|date] for [my|the] {_PICKUP}",
        f"[i cannot make it|i can't make it|the time does not work|i am not at home] can [we|you] [change|move] [the|my] {_PICKUP}",
    ],
    "cancel": [
        f"{_WANT} cancel [my|the|a] {_PICKUP} [on monday|tomorrow|]",
        f"[please|can you|could you|] cancel [my|the] {_PICKUP}",
        f"i [need|have|want] to cancel [my|the] [{_PICKUP}|booking|appointment]",
        "[please|can you|could you|] cancel [it|that|my booking|the booking|the appointment|my appointment]",
        f"i [do not|don't] need [the|my|a] {_PICKUP} [anymore|any more|any longer]",
        f"[forget|delete|drop|remove] [my|the] {_PICKUP}",
        f"[i am calling|i'm calling] to cancel [my|the] {_PICKUP}",
        "[i want to cancel|i need to cancel|i would like to cancel|can i cancel]",
        "[you do not need to|you don't have to|do not|don't] [come|pick it up|collect it] [anymore|any more|]",
        "i changed my mind [please|] cancel it",
    ],
    "transfer": [
        f"{_WANT} [speak|talk] [to|with] [a human|a person|a real person|an agent|someone|somebody|an operator|a human being|a colleague|your boss|the manager|a manager|a supervisor|your colleague|customer service|an employee]",
        "[please|can you|could you|] [connect|transfer|put] me [through|] to [a human|a person|an agent|an operator|a real person|a colleague|someone|the office|the manager]",
        "[let me|please let me] [speak|talk] to [a human|a person|a real person|an agent|someone|an operator|the manager]",
        "[give me|get me|i want|i need] [a human|a person|an agent|a real person|an operator|someone real|a real human|the manager]",
        "is there [a human|a person|a real person|someone|anyone|somebody] [i can talk to|i can speak to|there|i can speak with]",
        "[i do not|i don't] want to [talk|speak] to [a machine|a robot|a computer|you]",
        "[human|agent|operator|a person|a human] please",
        "[transfer|connect] me [please|]",
        "[can you|could you|please] [transfer|connect] [me|my call|this call]",
        "[can i|could i] have [a human|a person|someone|an agent] [on the line|on the phone|]",
        "[this does not work|you do not understand me|this is too complicated] [give me a human|i want a person|let me talk to someone]",
        "[are there|do you have] [humans|people|any people] [i can talk to|working there|there]",
    ],
    "repeat": [
        "[can you|could you|please|would you] [repeat|say] that [again|please|once more|one more time|]",
        "[sorry|pardon|pardon me|excuse me] [what did you say|what was that|can you repeat that|could you say that again|i did not hear you|i did not hear that|what|]",
        "[what did you say|what was that|what did you just say|say that again|say it again|come again|pardon|pardon me|repeat please|repeat that|again please|once more please|one more time|one more time please|once again please]",
        "i [did not|didn't|could not|couldn't] [hear|understand|catch|get] [you|that|it]",
        "[can you|could you|please] [repeat|say] [it|what you said|the last sentence|your answer|the last thing] [again|please|]",
        "[sorry|] [the line is bad|the connection is bad|it is noisy here|i was not listening] [can you repeat that|please repeat|what did you say|say that again]",
        "[please repeat|repeat that please|could you repeat|can you repeat|would you repeat that]",
        "i [missed that|missed it|did not get that|did not get it]",
    ],
    "slower": [
        "[can you|could you|please|would you] [speak|talk] [slower|more slowly|slowly|a bit slower|a little slower]",
        "[speak|talk] [slower|more slowly|slowly] [please|]",
        "[slower|slower please|slow down|slow down please|not so fast|not so fast please|please slow down]",
        "you [are|speak|talk] too [fast|quick|quickly]",
        "[that was|this is] too fast [for me|]",
    ],
    "faster": [
        "[can you|could you|please|would you] [speak|talk] [faster|more quickly|quicker|a bit faster|a little faster]",
        "[speak|talk] [faster|more quickly|quicker] [please|]",
        "[faster|faster please|speed up|speed up please|not so slow|not so slowly|hurry up|please hurry up]",
        "you [are|speak|talk] too [slow|slowly]",
        "[that was|this is] too slow [for me|]",
    ],
    "identity": [
        "[who are you|what are you|who is this|who is there|who is speaking|what is your name|your name please]",
        "[who|what] am i [talking|speaking] [to|with]",
        "are you [a robot|a machine|a human|human|a computer|a real person|a bot|real|an ai|a person|an assistant|a recording|artificial]",
        "am i [talking|speaking] [to|with] [a robot|a machine|a human|a computer|a real person|a bot|a person]",
        "is this [a robot|a machine|a recording|a computer|a real person|a human|a bot|an answering machine]",
        "[what is|what's|may i have|can i have|tell me|can you tell me|could you tell me] your name",
        "do you have a name",
        "[what|which] company [is this|are you|am i calling|did i call|do you work for]",
        "[with whom|to whom] am i [speaking|talking]",
        "[where|who] [did i call|am i calling|have i reached]",
        "[how|what] [should|can|do] i call you",
        "[what|who] is harbour parcel",
        "[tell me|say] who you are",
    ],
    "how": [
        "how are you [today|doing|doing today|feeling|this morning|]",
        "[hello|hi|hey|and] how are you [today|doing|]",
        "how is it going [today|]",
        "how do you do",
        "[are you well|are you okay|how are things|how is your day|how is life|how have you been|how do you feel]",
        "how is your day [going|so far|today]",
        "are you [having a good day|doing well|all right|fine]",
        "[i hope you are well|i hope you are fine|nice to meet you|nice to talk to you]",
    ],
    "thanks": [
        "[thanks|thank you|many thanks|thanks a lot|thank you very much|thank you so much|thanks very much|cheers]",
        "[great|perfect|okay|good|wonderful|excellent|nice|very good|lovely] [thanks|thank you|thank you very much|thanks a lot]",
        "[thanks|thank you] [for your help|for the information|for that|that is great|that is very kind|that helps|you helped me|mira|for helping me|very kind of you]",
        "[that is|that's] [very kind|very helpful|great|good to know|nice|wonderful] [thank you|thanks|of you|]",
        "[you are|you're|you were] [very helpful|very kind|great|a great help|so kind]",
        "i [appreciate it|appreciate your help|thank you]",
    ],
    "bye": [
        "[goodbye|bye|bye bye|see you|see you soon|see you later|good night|farewell|take care|so long]",
        "[thanks|thank you|okay|great|all right|thank you very much|perfect] [goodbye|bye|bye bye|see you|and goodbye|see you soon]",
        "[that is all|that was all|that's all|that's it|that will be all|nothing else|i am done|that is everything] [goodbye|bye|thanks|thank you|thanks bye|thank you goodbye|]",
        "[have a nice day|have a good day|have a nice evening|have a great day|have a good one] [goodbye|bye|]",
        "[goodbye|bye] [then|and thank you|mira|for now|and thanks|have a nice day|thank you]",
        "[i have to go|i must go|i need to go|i am hanging up] [now|] [goodbye|bye|]",
        "[you can hang up|hang up|please hang up|end the call|please end the call]",
        "[no|no thanks|no thank you] that is all [thank you|thanks|bye|goodbye|]",
        "[until next time|talk to you later|speak to you soon|till tomorrow]",
    ],
    "style": [
        "[can you|could you|please] [say|speak|talk|answer|tell me] [that|it|] [happily|sadly|calmly|angrily|cheerfully|in a sad voice|in a happy voice|like a pirate|with a deep voice|more friendly]",
        "[can you|could you|please] [sing|whisper|shout|sound happier|sound sad|be more cheerful|laugh]",
        "[say it|say that|speak] [happily|sadly|calmly|with more emotion|in another voice|with a man's voice]",
        "[change your voice|use another voice|can you change your voice|do you have another voice]",
    ],
    "language": [
        "do you speak [german|french|spanish|chinese|italian|polish|dutch|mandarin|another language|other languages|russian|turkish]",
        "[can you|could you|please|can we] [speak|talk|answer|continue] [in|] [german|french|spanish|chinese|italian|polish|mandarin|another language]",
        "[can you|could you|please] [say it|say that|repeat that] in [german|french|spanish|chinese|italian|mandarin]",
        "[switch to|change to|change the language to] [german|french|spanish|chinese|mandarin]",
        "[which|what|how many] languages do you speak",
        "i do not speak english [well|very well|]",
    ],
    "other": [
        "[what is|how is|what will be] the weather [like|] [today|tomorrow|there|outside|]",
        "[is it|will it be] [raining|sunny|cold|warm|snowing] [today|tomorrow|outside|there]",
        "will it rain [today|tomorrow|this weekend]",
        "[can you|could you|please] tell me [a joke|a story|the time|the news|something funny|a secret|a recipe]",
        "what [time|day|date] is it [now|today|]",
        "[i want to|i would like to|can i] [order|buy|get] [a pizza|some food|a coffee|a new phone|a ticket|flowers|a train ticket|a sandwich|a burger]",
        "[can you|could you|please] [book|find|reserve] [me|] [a hotel|a flight|a table|a taxi|a restaurant|a doctor|a room|a train]",
        "[who|what] is the [president|capital|king|prime minister|best football team|tallest mountain|meaning of life]",
        "what is the capital of [france|germany|spain|italy|china|japan]",
        "[what is|how much is] [two plus two|five times six|seven plus eight|ten minus three|the square root of nine]",
        "[who won|did you see|how was] the [game|match|football game|race|election] [yesterday|last night|today|]",
        "[can you|could you|please] [play|put on] [some music|a song|the radio|my favourite song]",
        "[do you like|do you know|have you heard of] [music|football|pizza|cats|dogs|movies|the beatles|chess|cooking|swimming]",
        "[i have|i've got] [a headache|a cold|a new car|a problem with my computer|a dog|three children|no money|a question about my taxes]",
        "[can you|could you|please] help me with my [homework|taxes|computer|garden|car|marriage|phone|bank account|insurance|internet|television]",
        "[what do you think about|tell me about|what do you know about] [politics|love|football|history|your family|the economy|dinosaurs|the stars]",
        "[how do i|how can i] [cook rice|learn french|lose weight|fix my car|bake a cake|open a bank account|reset my password]",
        "[my computer is broken|my car does not start|i am hungry|i am bored|i am tired|i love you|i am sad|my internet does not work]",
        "[where can i|where do i] [buy milk|park my car|find a doctor|get a passport|eat something|buy shoes|find a bank]",
        "[do you sell|do you have|can i buy] [shoes|phones|bread|stamps from china|bicycles|books|clothes|computers]",
        "[i want to|i would like to] [complain about my neighbour|open a bank account|learn to dance|talk about music|rent a car|sell my house|adopt a cat]",
        "[are you married|how old are you|do you have children|where do you live|what is your favourite colour|do you sleep|can you cook]",
        "[what is|tell me] the [phone number|address] of the [hospital|police|airport|city hall|station]",
        "[call|please call|can you call] [my mother|the police|a taxi|my wife|an ambulance|my bank]",
    ],
}

PATTERNS = {intent: [*patterns, *PARAPHRASES.get(intent, [])] for intent, patterns in _PLAIN.items()}

_ALWAYS_TRAINED_WORDS = 2


def wording_split(wording: str) -> Split:
    """Split of one wording, its slots still open."""
    if len([word for word in wording.split() if not word.startswith("{")]) <= _ALWAYS_TRAINED_WORDS:
        return "train"
    return split_of(f"wording {wording}")


_LISTED = 2_000  # patterns of more sentences are drawn from without listing them
_TRIES = 400


@functools.cache
def wordings(intent: str, pattern: int, split: Split) -> tuple[str, ...]:
    """All wordings of one pattern in one split."""
    return tuple(text for text in dict.fromkeys(every(PATTERNS[intent][pattern])) if wording_split(text) == split)


@functools.cache
def _patterns_with(intent: str, split: Split) -> tuple[int, ...]:
    patterns = enumerate(PATTERNS[intent])
    return tuple(i for i, pattern in patterns if count(pattern) > _LISTED or wordings(intent, i, split))


def random_wording(intent: str, split: Split, rng: Random) -> str:
    """A wording of the intent; patterns are equally likely, however many sentences they stand for."""
    choices = _patterns_with(intent, split)
    if not choices:
        raise ValueError(f"no wording of {intent!r} is in the {split} split")
    number = rng.choice(choices)
    pattern = PATTERNS[intent][number]
    if count(pattern) <= _LISTED:
        return rng.choice(wordings(intent, number, split))
    for _ in range(_TRIES):
        if wording_split(text := expand(pattern, rng)) == split:
            return text
    raise ValueError(f"no wording of {pattern!r} was found in the {split} split")
