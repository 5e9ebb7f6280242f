"""The words of the generated corpus: Han characters, Tai-lo with citation tones, and how Han-Lo text writes them.

Many bases carry several tones (kâu 猴, káu 狗, kāu 厚, kàu 到), many words sound alike (三 and 衫, 兩 and 卵, 九
and 狗), and the nicknames at the end come from sets in which the seven tones alone tell one name from another.
"""

from __future__ import annotations

from dataclasses import dataclass

from icefall_ext.text.tailo import Word, parse_word

# Group: Han Tai-lo, ...  A word that Han-Lo text writes in Latin letters has the same form twice.
_WORDS = """
pronoun: 我 guá, 你 lí, 伊 i, 阮 gún, 咱 lán, 恁 lín, 𪜶 in
function: beh beh, ê ê, teh teh, kap kap, --ah --ah, --ê --ê, --bô --bô, 佇 tī, 共 kā, 予 hōo, 對 tuì, 去 khì,
    來 lâi, 是 sī, 毋是 m̄-sī, 有 ū, 無 bô, 會 ē, 袂 bē, 愛 ài, 毋 m̄, 閣 koh, 嘛 mā, 攏 lóng, 真 tsin, 足 tsiok,
    誠 tsiânn, 上 siōng, 較 khah, 這 tsit, 彼 hit, 才 tsiah, 就 tiō, 毋過 m̄-koh, 所以 sóo-í, 因為 in-uī, 名 miâ, 叫 kiò,
    叫做 kiò-tsò, 揣 tshuē, 熟似 si̍k-sāi, 等 tán, 徛 khiā, 講 kóng, 問 mn̄g, 送 sàng, 共款 kāng-khuán, 佮意 kah-ì,
    已經 í-king, 當咧 tng-teh, 敢 kám, 若 nā, 無愛 bô-ài, 毋捌 m̄-bat, 捌 bat, 到 kàu, 轉去 tńg--khì, 出去 tshut--khì,
    起來 khí--lâi, 入來 ji̍p--lâi, 看著 khuànn--tio̍h, 先生 --sian-sinn, 小姐 --sió-tsiá
number: 一 tsi̍t, 兩 nn̄g, 三 sann, 四 sì, 五 gōo, 六 la̍k, 七 tshit, 八 peh, 九 káu, 十 tsa̍p
time: 今仔日 kin-á-ji̍t, 明仔載 bîn-á-tsài, 昨昏 tsa-hng, 暗時 àm-sî, 早起 tsá-khí, 下晡 ē-poo, 逐工 ta̍k-kang,
    逐年 ta̍k-nî, 後日 āu--ji̍t, 舊年 kū-nî, 拜一 pài-it, 拜三 pài-sann, 拜六 pài-la̍k, 熱天 jua̍h-thinn, 寒天 kuânn-thinn,
    頂月日 tíng-gue̍h-ji̍t
city: 台北 Tâi-pak, 台中 Tâi-tiong, 台南 Tâi-lâm, 台東 Tâi-tang, 高雄 Ko-hiông, 嘉義 Ka-gī, 屏東 Pîn-tong,
    花蓮 Hua-liân, 新竹 Sin-tik, 淡水 Tām-tsuí, 基隆 Ke-lâng, 宜蘭 Gî-lân, 鹿港 Lo̍k-káng, 彰化 Tsiong-huà
place: 市場 tshī-tiûnn, 學校 ha̍k-hāu, 公園 kong-hn̂g, 病院 pēnn-īnn, 車頭 tshia-thâu, 山頂 suann-tíng, 海邊 hái-pinn,
    銀行 gîn-hâng, 廟 biō, 橋 kiô, 港 káng, 田 tshân, 店 tiàm, 厝 tshù, 池 tî, 溪 khe, 湖 ôo, 島 tó, 山 suann, 海 hái
surname: 陳 Tân, 林 Lîm, 黃 N̂g, 李 Lí, 王 Ông, 張 Tiunn, 吳 Ngôo, 蔡 Tshuà, 許 Khóo, 鄭 Tēnn, 洪 Âng, 周 Tsiu
title: 老師 lāu-su, 醫生 i-sing, 校長 hāu-tiúnn, 頭家 thâu-ke
person: 老師 lāu-su, 醫生 i-sing, 朋友 pîng-iú, 囡仔 gín-á, 小妹 sió-muē, 大兄 tuā-hiann, 司機 su-ki, 學生 ha̍k-sing,
    厝邊 tshù-pinn, 人客 lâng-kheh, 查某囝 tsa-bóo-kiánn, 後生 hāu-senn, 翁 ang, 某 bóo, 姨 î, 姑 koo, 孫 sun,
    舅仔 kū-á, 同學 tông-ha̍k
animal/隻 tsiah: 狗 káu, 牛 gû, 羊 iûnn, 豬 ti, 雞 ke, 鴨 ah, 馬 bé, 猴 kâu, 虎 hóo, 鳥仔 tsiáu-á, 貓 niau,
    兔仔 thòo-á, 龜 ku, 象 tshiūnn, 蠓 báng
animal/尾 bué: 魚 hî, 蝦 hê, 蛇 tsuâ, 蟲 thâng
cloth/領 niá: 衫 sann, 褲 khòo, 裙 kûn
cloth/雙 siang: 鞋 ê
cloth/頂 tíng: 帽仔 bō-á
thing/本 pún: 冊 tsheh, 簿仔 phōo-á
thing/枝 ki: 筆 pit, 傘 suànn, 刀 to, 箭 tsìnn, 針 tsiam
thing/條 tiâu: 線 suànn, 街 ke, 歌 kua
thing/張 tiunn: 紙 tsuá, 圖 tôo, 床 tshn̂g
thing/塊 tè: 桌仔 toh-á, 碗 uánn, 盤仔 puânn-á, 布 pòo, 磚仔 tsng-á, 石頭 tsio̍h-thâu
thing/个 ê: 盒仔 a̍p-á, 袋仔 tē-á, 甕 àng, 箱仔 siunn-á, 鼓 kóo, 湯匙 thng-sî, 鐘 tsing, 桶 tháng
thing/批 phue: 貨 huè
thing/扇 sìnn: 門 mn̂g, 窗仔 thang-á
thing/領 niá: 網 bāng
thing/葩 pha: 火 hué, 燈 ting
thing/台 tâi: 車 tshia
thing/間 king: 房間 pâng-king, 厝 tshù, 店 tiàm, 廟 biō
thing/雙 siang: 箸 tī, 手 tshiú
plant/欉 tsâng: 樹 tshiū, 竹仔 tik-á, 松仔 tshîng-á
plant/蕊 luí: 花 hue, 雲 hûn
plant/枝 ki: 草 tsháu, 蔥 tshang
food/碗 uánn: 飯 pn̄g, 麵 mī, 糜 muê
food/粒 lia̍p: 卵 nn̄g, 梨仔 lâi-á, 柑仔 kam-á, 瓜 kue, 芋 ōo, 柚 iū, 豆 tāu, 糖仔 thn̂g-á
food/塊 tè: 餅 piánn, 粿 kué, 肉 bah, 豆乾 tāu-kuann
food/枝 ki: 筍 sún
food/盤 puânn: 菜 tshài, 炒飯 tshá-pn̄g
drink/杯 pue: 茶 tê, 水 tsuí, 牛奶 gû-ling
drink/矸 kan: 酒 tsiú, 油 iû, 醋 tshòo
drink/碗 uánn: 湯 thng
drink/包 pau: 藥 io̍h, 鹽 iâm, 糖 thn̂g, 米 bí
adjective: 媠 suí, 貴 kuì, 俗 sio̍k, 大 tuā, 細 sè, 長 tn̂g, 短 té, 懸 kuân, 矮 é, 新 sin, 舊 kū, 厚 kāu, 薄 po̍h,
    重 tāng, 輕 khin, 好 hó
quantity: 濟 tsē, 少 tsió
taste: 甜 tinn, 鹹 kiâm, 苦 khóo, 酸 sng, 芳 phang, 燒 sio, 冷 líng, 好食 hó-tsia̍h
colour: 紅 âng, 白 pe̍h, 烏 oo, 青 tshenn, 黃 n̂g
tripled: 紅紅紅 âng-âng-âng, 烏烏烏 oo-oo-oo, 長長長 tn̂g-tn̂g-tn̂g, 厚厚厚 kāu-kāu-kāu, 青青青 tshenn-tshenn-tshenn
tripled_taste: 甜甜甜 tinn-tinn-tinn, 芳芳芳 phang-phang-phang, 燒燒燒 sio-sio-sio, 苦苦苦 khóo-khóo-khóo,
    酸酸酸 sng-sng-sng
trade: 買 bé, 賣 bē, 借 tsioh, 換 uānn, 用 iōng, 提 the̍h, 看 khuànn
feed: 飼 tshī, 掠 lia̍h, 買 bé, 賣 bē, 畫 uē
eat: 食 tsia̍h, 煮 tsú, 買 bé, 賣 bē
sip: 啉 lim, 買 bé, 賣 bē
wear: 穿 tshīng, 洗 sé, 買 bé, 賣 bē
pastime: 讀冊 tha̍k-tsheh, 食飯 tsia̍h-pn̄g, 啉茶 lim-tê, 啉酒 lim-tsiú, 踅街 se̍h-ke, 看戲 khuànn-hì, 唱歌 tshiùnn-kua,
    寫字 siá-jī, 趁錢 thàn-tsînn, 掠魚 lia̍h-hî, 洗衫 sé-sann, 洗手 sé-tshiú, 煮飯 tsú-pn̄g, 種花 tsìng-hue,
    種菜 tsìng-tshài, 睏 khùn, 做工 tsò-kang, 歇睏 hioh-khùn, 開門 khui-mn̂g, 駛車 sái-tshia, 剃頭 thì-thâu,
    拍球 phah-kiû, 搬厝 puann-tshù, 照鏡 tsiò-kiànn, 縛粽 pa̍k-tsàng
weather: 落雨 lo̍h-hōo, 落雪 lo̍h-seh, 起風 khí-hong, 出日 tshut-ji̍t
"""

NICKNAMES = (  # tones 1 2 3 4 5 7 8
    ("tong", "東黨凍督同動毒"),
    ("kun", "君滾棍骨裙郡滑"),
    ("sian", "仙癬搧設禪善舌"),
    ("tin", "珍振鎮得塵陣直"),
    ("pang", "枋綁放北房棒縛"),
    ("king", "經景敬激窮競極"),
)
NICKNAME_TONES = (1, 2, 3, 4, 5, 7, 8)
NICKNAME_PREFIX = "阿"  # occurs nowhere else in the corpus: the character after it is the slot that the tone decides
_CHECKED = {"m": "p", "n": "t", "g": "k"}


@dataclass(frozen=True)
class Entry:
    han: str  # as Han-Lo text writes it; Latin for the few words that it romanises
    word: Word
    classifier: str = ""

    @property
    def is_latin(self) -> bool:
        return max(self.han) < "\u3400"


def _read_groups() -> dict[str, list[Entry]]:
    groups: dict[str, list[Entry]] = {}
    for line in _WORDS.strip().replace("\n    ", " ").splitlines():
        head, _, words = line.partition(": ")
        group, _, classifier = head.partition("/")
        if classifier:
            entry = _entry(classifier)
            groups.setdefault("classifier", []).append(entry)
            classifier = entry.han
        groups.setdefault(group, []).extend(_entry(word, classifier) for word in words.split(", "))
    return groups


def _entry(han_and_tailo: str, classifier: str = "") -> Entry:
    han, tailo = han_and_tailo.strip(" ,").split()
    return Entry(han, parse_word(tailo), classifier)


def nickname(base: str, tone: int) -> Entry:
    """阿東 A-tong: the name of one tone of a set."""
    han = dict(NICKNAMES)[base][NICKNAME_TONES.index(tone)]
    if tone in (4, 8):
        base = base.removesuffix("ng") + "k" if base.endswith("ng") else base[:-1] + _CHECKED[base[-1]]
    return Entry(NICKNAME_PREFIX + han, parse_word(f"A1-{base}{tone}"))


GROUPS = _read_groups()
